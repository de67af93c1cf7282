"""Decoder: makes an image of features, and its counterpart, which judges images."""

import keras

from keras_ssl.layers.batch_norm import BatchNorm
from keras_ssl.layers.heads import _build_in_order, _call_in_order

_START = 4  # pixels: a vector becomes a map of at least this side, and less than twice as much
_MOST_FILTERS = 512


@keras.saving.register_keras_serializable(package="keras_ssl")
class Decoder(keras.layers.Layer):
    """Makes images of feature vectors or of feature maps, by strided transposed convolutions.

    A vector first becomes a small map by a dense layer. Each further layer doubles the sides of the map
    and halves its filters: a transposed convolution of 4x4 with stride 2, batch normalization and ReLU.
    A convolution of 3x3 then makes the image. What is larger than the image is cut off.

    Args:
        image_shape: (height, width, channels) of the images.
        filters: filters of the last layer before the image; each layer before it has twice as many, up
            to 512.
        activation: activation of the pixels: "sigmoid" for pixels in [0, 1], `None` for any values.

    Raises:
        ValueError: if `image_shape` is not three positive numbers, or `filters` is not positive; when
            it is built, if the input is larger than the image.

    Example:
        >>> Decoder((32, 32, 3))(keras.ops.ones((4, 512))).shape
        TensorShape([4, 32, 32, 3])

    Source: Pathak et al. 2016, "Context Encoders", section 3.1, for the layers (filters 512, 256, 128,
    64). The dense layer instead of their channel-wise one, and the last convolution, are ours.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        filters: int = 64,
        activation: str | None = None,
        **kwargs,
    ):
        if len(image_shape) != 3 or not all(size and size > 0 for size in image_shape):
            raise ValueError(
                "`image_shape` must be (height, width, channels), all positive. "
                f"Received: image_shape={tuple(image_shape)}"
            )
        if filters < 1:
            raise ValueError(f"`filters` must be at least 1. Received: filters={filters}")
        super().__init__(**kwargs)
        self.image_shape = tuple(image_shape)
        self.filters = filters
        self.activation = activation

    def build(self, input_shape):
        """Creates the layers for `(batch, features)` or `(batch, height, width, channels)`."""
        height, width, channels = self.image_shape
        self.stack = []
        if len(input_shape) == 2:
            doublings = max(0, (min(height, width) // _START).bit_length() - 1)
            side = 2**doublings
            start = -(-height // side), -(-width // side), self._filters(doublings)
            self.stack += [
                keras.layers.Dense(start[0] * start[1] * start[2], use_bias=False, name="dense"),
                keras.layers.Reshape(start, name="map"),
                BatchNorm(name="norm"),
                keras.layers.ReLU(name="relu"),
            ]
        else:
            doublings = _doublings(tuple(input_shape[1:3]), (height, width))
        for left in reversed(range(doublings)):
            number = doublings - left
            self.stack += [
                keras.layers.Conv2DTranspose(
                    self._filters(left),
                    4,
                    2,
                    "same",
                    use_bias=False,
                    kernel_initializer="he_normal",
                    name=f"up_{number}",
                ),
                BatchNorm(name=f"norm_{number}"),
                keras.layers.ReLU(name=f"relu_{number}"),
            ]
        self.stack.append(keras.layers.Conv2D(channels, 3, padding="same", name="pixels"))
        _build_in_order(self.stack, input_shape)

    def _filters(self, doublings_left: int) -> int:
        return min(self.filters * 2**doublings_left, max(self.filters, _MOST_FILTERS))

    def call(self, features, training=False):
        """Returns `(batch, height, width, channels)` float32 images."""
        height, width, _ = self.image_shape
        images = _call_in_order(self.stack, features, training)[:, :height, :width]
        images = keras.ops.cast(images, "float32")
        return keras.activations.get(self.activation)(images)

    def compute_output_shape(self, input_shape):
        """Returns `(batch, height, width, channels)`."""
        return (input_shape[0], *self.image_shape)

    def get_config(self):
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "image_shape": self.image_shape,
            "filters": self.filters,
            "activation": self.activation,
        }


@keras.saving.register_keras_serializable(package="keras_ssl")
class Discriminator(keras.layers.Layer):
    """Tells real images from made ones, by strided convolutions: a logit per image.

    Convolutions of 4x4 with stride 2 halve the image down to a map of four to seven pixels; each has
    twice as many filters as the one before, up to 512. All but the first are normalized over the batch;
    all have a leaky ReLU with slope 0.2. A dense layer makes the logit.

    Args:
        filters: filters of the first convolution.

    Raises:
        ValueError: if `filters` is not positive.

    Example:
        >>> Discriminator()(keras.ops.ones((4, 32, 32, 3))).shape
        TensorShape([4, 1])

    Source: Pathak et al. 2016, "Context Encoders"; Radford et al. 2016, "Unsupervised Representation
    Learning with Deep Convolutional Generative Adversarial Networks".
    """

    def __init__(self, filters: int = 64, **kwargs):
        if filters < 1:
            raise ValueError(f"`filters` must be at least 1. Received: filters={filters}")
        super().__init__(**kwargs)
        self.filters = filters

    def build(self, input_shape):
        """Creates the layers for images of `(batch, height, width, channels)`."""
        halvings = max(1, (min(input_shape[1:3]) // _START).bit_length() - 1)
        self.stack = []
        for number in range(1, halvings + 1):
            filters = min(self.filters * 2 ** (number - 1), max(self.filters, _MOST_FILTERS))
            convolution = keras.layers.Conv2D(
                filters,
                4,
                2,
                "same",
                use_bias=number == 1,
                kernel_initializer="he_normal",
                name=f"down_{number}",
            )
            norm = [] if number == 1 else [BatchNorm(name=f"norm_{number}")]
            relu = keras.layers.LeakyReLU(0.2, name=f"relu_{number}")
            self.stack += [convolution, *norm, relu]
        self.stack += [keras.layers.Flatten(name="flat"), keras.layers.Dense(1, name="logit")]
        _build_in_order(self.stack, input_shape)

    def call(self, images, training=False):
        """Returns `(batch, 1)` float32 logits, positive for images that seem real."""
        return keras.ops.cast(_call_in_order(self.stack, images, training), "float32")

    def compute_output_shape(self, input_shape):
        """Returns `(batch, 1)`."""
        return (input_shape[0], 1)

    def get_config(self):
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "filters": self.filters}


def _doublings(sides: tuple[int | None, int | None], image: tuple[int, int]) -> int:
    """Returns how often a map must be doubled to be at least as large as the image."""
    pairs = list(zip(sides, image, strict=True))
    if any(own is None or own > side for own, side in pairs):
        raise ValueError(
            "`Decoder` needs a feature map of a fixed size that is not larger than the image. "
            f"Received: a map of {sides}, an image of {image}"
        )
    return max((-(-side // (own or side)) - 1).bit_length() for own, side in pairs)
