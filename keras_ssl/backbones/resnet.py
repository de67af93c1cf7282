"""ResNet: residual networks of any depth and width, with or without selective kernels."""

from dataclasses import dataclass

import keras
from keras import layers

from keras_ssl.backbones.selective_kernel import SelectiveKernel
from keras_ssl.layers.batch_norm import BatchNorm
from keras_ssl.layers.convolution import Conv2D

# Residual blocks in each of the four stages; three convolutions per block from 50 layers up.
_STAGES = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
_BASIC_DEPTHS = (18, 34)
_STEMS = ("auto", "small", "imagenet")
_SMALL_SIDE = 64  # pixels: up to this side the "auto" stem keeps the full resolution


def ResNet(  # noqa: N802 (a model's constructor, spelled as one)
    depth: int = 18,
    width: float = 1.0,
    sk_ratio: float = 0.0,
    stem: str = "auto",
    input_shape: tuple[int | None, int | None, int] = (32, 32, 3),
    name: str | None = None,
    resnet_d: bool = False,
    strides: tuple[int, int, int, int] = (1, 2, 2, 2),
) -> keras.Model:
    """Returns a residual network that maps images to globally average-pooled features.

    The model is functional, from (batch, height, width, channels) images to (batch, features) in
    float32 (under mixed precision too): 512 * width features for depths 18 and 34, 2048 * width
    above. `model.get_layer(name).output` is the feature map after "stem", "block1", "block2",
    "block3" and "block4".

    Convolutions have no biases and pad explicitly, as in PyTorch, so that its weights can be imported.
    A shortcut is a projection only where the shape changes, as in PyTorch (google-research/simclr has
    one more, in the first block of depths 18 and 34). Kernels are initialized with He's normal
    distribution over fan-out, as in PyTorch (google-research/simclr uses a variance of 1 / fan-in).
    The last batch normalization of each residual block starts with gamma = 0, so that the block starts
    as its shortcut.

    Args:
        depth: 18 or 34 (basic blocks), 50, 101, 152 or 200 (bottleneck blocks).
        width: positive factor on the number of filters.
        sk_ratio: 0 for a plain ResNet. A positive value (0.0625 in SimCLRv2) adds selective kernels to
            the bottleneck blocks, and the parts of ResNet-D. Depths 18 and 34 get only the latter.
            Shortcuts are then also averaged where they have no stride, as in SimCLRv2.
        stem: "imagenet" divides the side by 4 (convolution and max pooling, stride 2 each), "small"
            keeps it (one 3x3 convolution), "auto" uses "small" for sides of at most 64 pixels.
        input_shape: (height, width, channels). Height and width may be `None` if `stem` is not "auto".
        name: name of the model; "resnet" and the depth by default.
        resnet_d: whether to use the parts of ResNet-D without selective kernels: a stem of three 3x3
            convolutions instead of one 7x7, and shortcuts that average 2x2 pixels instead of skipping
            three of them, as timm's `resnet50d`.
        strides: stride of each block, 1 or 2. (1, 2, 1, 1) keeps an eighth of the side of large images,
            for methods that compare places, such as `VideoColorization`.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: if `depth` or `stem` is unknown, `width` leaves too few filters, `sk_ratio` is
            negative, `input_shape` is not (height, width, channels), or `strides` are not four numbers
            of 1 or 2.

    Example:
        >>> ResNet(18, width=0.25, input_shape=(32, 32, 3))(keras.ops.ones((2, 32, 32, 3))).shape
        TensorShape([2, 128])

    Source: He et al. 2015; torchvision's `resnet.py`; He et al. 2018 ("Bag of Tricks", ResNet-D);
    Chen et al. 2020 (SimCLRv2), table 1; `tf2/resnet.py` of google-research/simclr.
    """
    _check_arguments(depth, width, sk_ratio, stem, input_shape)
    if len(strides) != 4 or not {1, 2}.issuperset(strides):
        raise ValueError(f"`strides` must be four numbers of 1 or 2. Received: strides={strides}")
    if stem == "auto":
        sides = [side for side in input_shape[:2] if side is not None]
        stem = auto_stem(max(sides))
    resnet_d = resnet_d or sk_ratio > 0
    build_block = _basic_block if depth in _BASIC_DEPTHS else _bottleneck_block

    images = keras.Input(input_shape, name="images")
    features = _stem(images, stem, _filters(64, width), resnet_d=resnet_d)
    for stage, blocks in enumerate(_STAGES[depth], start=1):
        for block in range(1, blocks + 1):
            # The last layer of a stage is named after the stage: its output is the feature map.
            last = f"block{stage}"
            spec = _Block(
                prefix=f"block{stage}_{block}",
                output=last if block == blocks else f"block{stage}_{block}_relu",
                filters=_filters(64 * 2 ** (stage - 1), width),
                stride=strides[stage - 1] if block == 1 else 1,
                sk_ratio=sk_ratio,
                resnet_d=resnet_d,
            )
            features = build_block(features, spec)
    # Always float32: this is a mean over many pixels, and the input of every loss.
    pooled = layers.GlobalAveragePooling2D(dtype="float32", name="features")(features)
    return keras.Model(images, pooled, name=name or f"resnet{depth}")


def auto_stem(side: int) -> str:
    """Returns the stem that `stem="auto"` chooses for images whose longer side has `side` pixels.

    Example:
        >>> auto_stem(64), auto_stem(65)
        ('small', 'imagenet')
    """
    return "small" if side <= _SMALL_SIDE else "imagenet"


def _check_arguments(depth, width, sk_ratio, stem, input_shape):
    if depth not in _STAGES:
        depths = ", ".join(map(str, _STAGES))
        raise ValueError(f"`depth` must be one of {depths}. Received: depth={depth!r}")
    if not width > 0 or _filters(64, width) < 2:
        raise ValueError(
            "`width` must be positive and leave at least 2 of the first stage's 64 filters. "
            f"Received: width={width}"
        )
    if not sk_ratio >= 0:
        raise ValueError(
            "`sk_ratio` must be 0 (no selective kernels) or positive. "
            f"Received: sk_ratio={sk_ratio}"
        )
    if stem not in _STEMS:
        raise ValueError(f"`stem` must be one of {', '.join(_STEMS)}. Received: stem={stem!r}")
    if len(input_shape) != 3 or not input_shape[2]:
        raise ValueError(
            "`input_shape` must be (height, width, channels), with a known number of channels. "
            f"Received: input_shape={input_shape}"
        )
    if stem == "auto" and None in input_shape[:2]:
        raise ValueError(
            "`stem` must be 'small' or 'imagenet' when the image size is unknown. "
            f"Received: stem='auto', input_shape={input_shape}"
        )


def _filters(filters, width):
    return round(filters * width)


@dataclass(frozen=True)
class _Block:
    """Names and sizes of one residual block."""

    prefix: str
    output: str
    filters: int
    stride: int
    sk_ratio: float
    resnet_d: bool


def _stem(images, kind, filters, resnet_d):
    if kind == "small":
        features = _conv(images, filters, 3, 1, "stem_conv")
        return _norm_relu(features, "stem_norm", "stem")
    if resnet_d:
        features = _conv(images, filters // 2, 3, 2, "stem_conv1")
        features = _norm_relu(features, "stem_norm1", "stem_relu1")
        features = _conv(features, filters // 2, 3, 1, "stem_conv2")
        features = _norm_relu(features, "stem_norm2", "stem_relu2")
        features = _conv(features, filters, 3, 1, "stem_conv3")
        features = _norm_relu(features, "stem_norm3", "stem_relu3")
    else:
        features = _conv(images, filters, 7, 2, "stem_conv")
        features = _norm_relu(features, "stem_norm", "stem_relu")
    # Zero padding gives the same result as PyTorch's minus infinity, since ReLU outputs are >= 0.
    features = layers.ZeroPadding2D(1, name="stem_pad")(features)
    return layers.MaxPooling2D(3, 2, name="stem")(features)


def _basic_block(inputs, block):
    x = _conv(inputs, block.filters, 3, block.stride, f"{block.prefix}_conv1")
    x = _norm_relu(x, f"{block.prefix}_norm1", f"{block.prefix}_relu1")
    x = _conv(x, block.filters, 3, 1, f"{block.prefix}_conv2")
    return _add_shortcut(x, inputs, block, f"{block.prefix}_norm2")


def _bottleneck_block(inputs, block):
    x = _conv(inputs, block.filters, 1, 1, f"{block.prefix}_conv1")
    x = _norm_relu(x, f"{block.prefix}_norm1", f"{block.prefix}_relu1")
    if block.sk_ratio > 0:  # one convolution computes both streams
        x = _conv(x, 2 * block.filters, 3, block.stride, f"{block.prefix}_conv2")
        x = _norm_relu(x, f"{block.prefix}_norm2", f"{block.prefix}_relu2")
        x = SelectiveKernel(block.filters, block.sk_ratio, name=f"{block.prefix}_select")(x)
    else:
        x = _conv(x, block.filters, 3, block.stride, f"{block.prefix}_conv2")
        x = _norm_relu(x, f"{block.prefix}_norm2", f"{block.prefix}_relu2")
    x = _conv(x, 4 * block.filters, 1, 1, f"{block.prefix}_conv3")
    return _add_shortcut(x, inputs, block, f"{block.prefix}_norm3")


def _add_shortcut(residual, inputs, block, norm_name):
    residual = BatchNorm(gamma_initializer="zeros", name=norm_name)(residual)
    shortcut, filters, stride = inputs, residual.shape[-1], block.stride
    if stride > 1 or inputs.shape[-1] != filters:
        if block.resnet_d and (stride > 1 or block.sk_ratio > 0):
            # For odd sides, "same" pooling averages existing pixels; the reference includes zeros.
            pool_name = f"{block.prefix}_shortcut_pool"
            shortcut = layers.AveragePooling2D(2, stride, "same", name=pool_name)(shortcut)
            stride = 1
        shortcut = _conv(shortcut, filters, 1, stride, f"{block.prefix}_shortcut_conv")
        shortcut = BatchNorm(name=f"{block.prefix}_shortcut_norm")(shortcut)
    x = layers.Add(name=f"{block.prefix}_add")([shortcut, residual])
    return layers.ReLU(name=block.output)(x)


def _norm_relu(x, norm_name, relu_name):
    return layers.ReLU(name=relu_name)(BatchNorm(name=norm_name)(x))


def _conv(x, filters, size, stride, name):
    # "same" pads a strided convolution at the right and bottom only; PyTorch pads all four sides.
    padding = "same"
    if stride > 1 and size > 1:
        x = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
        padding = "valid"
    return Conv2D(
        filters,
        size,
        stride,
        padding,
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(2, "fan_out", "untruncated_normal"),
        name=name,
    )(x)
