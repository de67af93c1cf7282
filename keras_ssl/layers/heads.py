"""Heads on top of an encoder, which are used in pretraining and discarded afterwards."""

import keras

from keras_ssl.augment.constructor_arguments import constructor_arguments
from keras_ssl.layers.batch_norm import BatchNorm


@keras.saving.register_keras_serializable(package="keras_ssl")
class ProjectionHead(keras.layers.Layer):
    """SimCLR's projection head: dense layers, each followed by batch normalization.

    There is a ReLU between layers. Dense layers have no bias, and the last batch normalization has no
    offset, as in google-research/simclr.

    Args:
        units: units of the last layer, the dimension of the embedding.
        hidden_units: units of the other layers; `None` uses the width of the input, as the reference
            code does.
        depth: number of dense layers: 2 in SimCLR, 3 in SimCLRv2, 1 for a linear head. With 0 the head
            returns its input, and `units` is ignored.

    Raises:
        ValueError: if a number of units is not positive, or `depth` is negative.

    Example:
        >>> ProjectionHead(units=128)(keras.ops.ones((4, 512))).shape
        TensorShape([4, 128])

    Source: Chen et al. 2020 (SimCLR), section 4.2; `model_util.py` of google-research/simclr.
    """

    def __init__(self, units: int = 128, hidden_units: int | None = None, depth: int = 2, **kwargs):
        if depth < 0:
            raise ValueError(f"`depth` must not be negative. Received: depth={depth}")
        _check_positive(units=units, hidden_units=hidden_units)
        super().__init__(**kwargs)
        self.units = units
        self.hidden_units = hidden_units
        self.depth = depth

    def build(self, input_shape):
        """Creates the layers for inputs of `(batch, features)`."""
        self.stack = []
        for number in range(1, self.depth + 1):
            last = number == self.depth
            units = self.units if last else self.hidden_units or input_shape[-1]
            self.stack += [
                keras.layers.Dense(units, use_bias=False, name=f"dense_{number}"),
                BatchNorm(center=not last, name=f"norm_{number}"),
            ]
            if not last:
                self.stack.append(keras.layers.ReLU(name=f"relu_{number}"))
        _build_in_order(self.stack, input_shape)

    def call(self, features, training=False):
        """Maps (batch, features) to (batch, units); a head of depth 0 returns the features."""
        return _call_in_order(self.stack, features, training)

    def first_layers(self, count: int) -> list[keras.layers.Layer]:
        """Returns the head's first layers in order, for fine-tuning from a layer of the head.

        They are the head's own layers, not copies.

        Args:
            count: number of dense layers, from 0 to `depth`. Each is returned with the normalization
                and ReLU that follow it. SimCLRv2 uses 1; 0 returns none.

        Raises:
            ValueError: if `count` is not an integer from 0 to `depth`, or the head is not built.

        Source: Chen et al. 2020 (SimCLRv2), section 2; `ft_proj_selector` of google-research/simclr.
        """
        return _first_layers(self, count)

    def compute_output_shape(self, input_shape):
        """Returns `(batch, units)`, or `(batch, features)` for a head of depth 0."""
        return (input_shape[0], self.units) if self.depth else tuple(input_shape)

    def get_config(self):
        """Returns the arguments of the constructor."""
        return {**super().get_config(), **constructor_arguments(self)}


@keras.saving.register_keras_serializable(package="keras_ssl")
class MLPHead(keras.layers.Layer):
    """Dense layers with ReLU in between: the head of MoCo and, with batch normalization, of BYOL.

    Without batch normalization every layer has a bias. With it, each layer but the last is normalized
    before its ReLU, and the last one has neither bias nor normalization.

    Args:
        units: units of the last layer, the dimension of the embedding.
        hidden_units: units of the other layers; `None` uses the width of the input.
        depth: number of dense layers: 1 in MoCo v1, 2 in MoCo v2 and in BYOL.
        batch_norm: whether to normalize hidden layers, as BYOL does.

    Raises:
        ValueError: if a number is not positive.

    Example:
        >>> MLPHead(units=256, hidden_units=4096, batch_norm=True)(keras.ops.ones((4, 512))).shape
        TensorShape([4, 256])

    Source: `main_moco.py` and `moco/builder.py` of facebookresearch/moco; `byol/utils/networks.py` of
    google-deepmind/deepmind-research.
    """

    def __init__(
        self,
        units: int = 128,
        hidden_units: int | None = None,
        depth: int = 2,
        batch_norm: bool = False,
        **kwargs,
    ):
        _check_positive(units=units, hidden_units=hidden_units, depth=depth)
        super().__init__(**kwargs)
        self.units = units
        self.hidden_units = hidden_units
        self.depth = depth
        self.batch_norm = batch_norm

    def build(self, input_shape):
        """Creates the layers for inputs of `(batch, features)`."""
        self.stack = []
        for number in range(1, self.depth):
            hidden = self.hidden_units or input_shape[-1]
            self.stack.append(keras.layers.Dense(hidden, name=f"dense_{number}"))
            if self.batch_norm:
                self.stack.append(BatchNorm(name=f"norm_{number}"))
            self.stack.append(keras.layers.ReLU(name=f"relu_{number}"))
        last = keras.layers.Dense(
            self.units, use_bias=not self.batch_norm, name=f"dense_{self.depth}"
        )
        self.stack.append(last)
        _build_in_order(self.stack, input_shape)

    def call(self, features, training=False):
        """Maps (batch, features) to (batch, units)."""
        return _call_in_order(self.stack, features, training)

    def first_layers(self, count: int) -> list[keras.layers.Layer]:
        """Returns the first `count` dense layers and the layers after each; see `ProjectionHead`."""
        return _first_layers(self, count)

    def compute_output_shape(self, input_shape):
        """Returns `(batch, units)`."""
        return (input_shape[0], self.units)

    def get_config(self):
        """Returns the arguments of the constructor."""
        return {**super().get_config(), **constructor_arguments(self)}


def _check_positive(**sizes: int | None):
    for name, value in sizes.items():
        if value is not None and value < 1:
            raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")


def _first_layers(head: ProjectionHead | MLPHead, count: int) -> list[keras.layers.Layer]:
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= head.depth:
        raise ValueError(
            "`count` must be an integer from 0 to the head's depth. "
            f"Received: count={count!r}, depth={head.depth}"
        )
    if not head.built:
        raise ValueError(
            "The head must be built: call it once, or call its `build` method. "
            f"Received: the unbuilt {head.name!r}"
        )
    dense = [i for i, layer in enumerate(head.stack) if isinstance(layer, keras.layers.Dense)]
    return list(head.stack[: [*dense, len(head.stack)][count]])


def _build_in_order(stack: list, input_shape):
    shape = tuple(input_shape)
    for layer in stack:
        layer.build(shape)
        shape = layer.compute_output_shape(shape)


def _call_in_order(stack: list, features, training: bool):
    for layer in stack:
        if isinstance(layer, BatchNorm):
            features = layer(features, training=training)
        else:
            features = layer(features)
    return features
