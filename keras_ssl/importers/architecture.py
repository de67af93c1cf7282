"""Builds the ResNets of other libraries."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import keras
from keras import layers

from keras_ssl.backbones import ResNet, SelectiveKernel
from keras_ssl.layers import BatchNorm, Conv2D

# Depth by the number of blocks in the four stages, and whether they are bottleneck blocks.
_DEPTHS: dict[tuple[tuple[int, ...], bool], int] = {
    ((2, 2, 2, 2), False): 18,
    ((3, 4, 6, 3), False): 34,
    ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
    ((3, 24, 36, 3), True): 200,
}
_STEM_FILTERS = 64  # of a network of width 1
# Convolutions with a stride in bottleneck blocks of "v1" and "v1.5".
_STRIDED_1X1 = re.compile(r"block[234]_1_conv1")
_STRIDED_3X3 = re.compile(r"block[234]_1_conv2")


def find_depth(blocks: Mapping[int, int], bottleneck: bool, origin: str) -> int:
    """Returns the depth of a ResNet.

    Args:
        blocks: number of blocks by stage; the first stage is 1.
        bottleneck: whether a block has three convolutions.
        origin: origin of the tensors, for the message.

    Raises:
        ValueError: if no ResNet has these numbers of blocks.
    """
    counts = tuple(blocks.get(stage, 0) for stage in sorted({1, 2, 3, 4, *blocks}))
    if (counts, bottleneck) not in _DEPTHS:
        kind = {True: "bottleneck", False: "basic"}
        known = [f"{list(c)} {kind[b]} (ResNet-{depth})" for (c, b), depth in _DEPTHS.items()]
        raise ValueError(
            f"{origin} is not a ResNet that keras_ssl supports. Expected blocks per stage: "
            f"{', '.join(known)}. Received: {list(counts)} {kind[bottleneck]}"
        )
    return _DEPTHS[counts, bottleneck]


@dataclass(frozen=True)
class Architecture:
    """A ResNet as other libraries build it.

    Attributes:
        depth: see `keras_ssl.backbones.ResNet`.
        filters: number of filters of the stem; 64 for width 1.
        stem: "imagenet" or "small".
        sk_ratio: see `keras_ssl.backbones.ResNet`.
        channels: number of channels of the images.
        pooling: padding of the stem's pooling. "torch": equal on all sides. "tensorflow": as
            TensorFlow's "SAME" (for even sizes, only on the right and below); the shortcuts of
            ResNet-D then also include zeros in their averages for odd sizes.
        convolutions: padding of strided convolutions, "torch" or "tensorflow".
        first_projection: whether the first block of depths 18 and 34 has a projection, as in
            google-research/simclr and BYOL.
        resnet_d: see `keras_ssl.backbones.ResNet`.
        stride_in: convolution of the first bottleneck block of a stage that has the stride: "3x3", the
            second one ("v1.5"), or "1x1", the first one ("v1": Caffe, keras.applications).
        stem_padding: padding of the "small" stem in pixels, 1 or 2.
    """

    depth: int
    filters: int
    stem: str = "imagenet"
    sk_ratio: float = 0.0
    channels: int = 3
    pooling: str = "torch"
    convolutions: str = "torch"
    first_projection: bool = False
    resnet_d: bool = False
    stride_in: str = "3x3"
    stem_padding: int = 1

    def build(self, input_shape: tuple | None) -> keras.Model:
        """Returns the network with random weights.

        Args:
            input_shape: (height, width, channels) of the images, with `None` for free sides; `None`
                for images of any size.
        """
        if input_shape is not None and input_shape[-1] != self.channels:
            raise ValueError(
                f"`input_shape` must have {self.channels} channels, like the weights. "
                f"Received: input_shape={input_shape}"
            )
        network = ResNet(
            self.depth,
            self.filters / _STEM_FILTERS,
            self.sk_ratio,
            self.stem,
            input_shape or (None, None, self.channels),
            resnet_d=self.resnet_d,
        )
        if not self._differs():
            return network
        return keras.models.clone_model(
            network, clone_function=self._clone_layer, call_function=self._call_layer
        )

    def _differs(self) -> bool:
        """Whether `keras_ssl.backbones.ResNet` alone does not build this network."""
        padding = (self.pooling, self.convolutions, self.stem_padding)
        return padding != ("torch", "torch", 1) or self.first_projection or self.stride_in != "3x3"

    def _clone_layer(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        """Returns a copy of a layer, with TensorFlow's padding where this architecture has it."""
        config = layer.get_config()
        if self.pooling == "tensorflow" and isinstance(layer, layers.MaxPooling2D):
            config["padding"] = "same"
        if self.convolutions == "tensorflow" and isinstance(layer, Conv2D):
            config["padding"] = "same"
        if _is_average_pooling(layer) and layer.strides != (1, 1):
            config["padding"] = "valid"
        if self.stride_in == "1x1" and _STRIDED_1X1.fullmatch(layer.name):
            config["strides"] = (2, 2)
        if self.stride_in == "1x1" and _STRIDED_3X3.fullmatch(layer.name):
            config.update(strides=(1, 1), padding="same")
        return type(layer).from_config(config)

    def _call_layer(self, layer: keras.layers.Layer, inputs, **_):
        """Applies a layer of the copy, with the padding and additions of this architecture."""
        if self.stem_padding == 2 and layer.name == "stem_conv":  # whose own padding is 1
            return layer(layers.ZeroPadding2D(1, name="stem_extra_pad")(inputs))
        if self.stride_in == "1x1" and _STRIDED_3X3.fullmatch(layer.name.removesuffix("_pad")):
            return inputs if isinstance(layer, layers.ZeroPadding2D) else layer(inputs)
        if isinstance(layer, layers.ZeroPadding2D):
            pads_pooling = layer.name == "stem_pad"
            kind = self.pooling if pads_pooling else self.convolutions
            return inputs if kind == "tensorflow" else layer(inputs)
        if _is_average_pooling(layer) and layer.strides != (1, 1):
            pad = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{layer.name}_pad")
            return layer(pad(inputs))
        if self.first_projection and layer.name == "block1_1_add":
            shortcut, residual = inputs
            return layer([self._projection(shortcut), residual])
        return layer(inputs)

    def _projection(self, shortcut):
        name = "block1_1_shortcut"
        if self.sk_ratio > 0:
            shortcut = layers.AveragePooling2D(2, 1, "same", name=f"{name}_pool")(shortcut)
        shortcut = Conv2D(self.filters, 1, use_bias=False, name=f"{name}_conv")(shortcut)
        return BatchNorm(name=f"{name}_norm")(shortcut)


def _is_average_pooling(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, layers.AveragePooling2D)


def iterate_weights(
    network: keras.Model,
) -> Iterator[tuple[keras.layers.Layer, str, keras.Variable]]:
    """Yields (layer, kind, variable) for each variable of a backbone.

    The kind is "kernel", "gamma", "beta", "moving_mean" or "moving_variance". In a selective kernel,
    it starts with the name of the inner layer, as in "squeeze/kernel".
    """
    for layer in network.layers:
        parts = {"": layer}
        if isinstance(layer, SelectiveKernel):
            parts = {f"{name}/": getattr(layer, name) for name in ("squeeze", "norm", "excite")}
        for prefix, part in parts.items():
            for variable in part.weights:
                yield layer, prefix + variable.name, variable
