"""Tiny: three convolutions, for tests and very small images."""

import keras
from keras import layers

from keras_ssl.layers.batch_norm import BatchNorm

_MIN_SIDE = 4  # pixels: strided convolutions keep at least this side


def Tiny(  # noqa: N802 (a model's constructor, spelled as one)
    input_shape: tuple[int | None, int | None, int] = (32, 32, 3),
    features: int = 64,
    name: str | None = None,
    strides: tuple[int, int, int] | None = None,
) -> keras.Model:
    """Returns a small network that maps images to globally average-pooled features.

    It has three blocks of 3x3 convolution, batch normalization and ReLU, with a quarter, a half and
    all of the features. The first block has stride 1; the others have stride 2 as long as both sides
    keep at least 4 pixels. The feature maps are the outputs of the layers "block1", "block2" and
    "block3".

    Args:
        input_shape: (height, width, channels); 8x8 pixels are enough. Height and width may be `None`,
            for sides of any length, if `strides` is given.
        features: number of output features, at least 4.
        name: name of the model, "tiny" by default.
        strides: strides of the three blocks; `None` chooses them for the size, as `tiny_strides` does.

    Returns:
        A functional model from (batch, height, width, channels) to float32 (batch, features).

    Raises:
        ValueError: if `features` is less than 4, `input_shape` is not three positive numbers, or a side
            is `None` without `strides`.

    Example:
        >>> Tiny(input_shape=(8, 8, 1))(keras.ops.ones((2, 8, 8, 1))).shape
        TensorShape([2, 64])
    """
    if features < 4:
        raise ValueError(f"`features` must be at least 4. Received: features={features}")
    if (
        len(input_shape) != 3
        or not all(size is None or size > 0 for size in input_shape)
        or not input_shape[2]
    ):
        raise ValueError(
            "`input_shape` must be (height, width, channels), all positive. "
            f"Received: input_shape={input_shape}"
        )
    if strides is None:
        height, width = input_shape[:2]
        if height is None or width is None:
            raise ValueError(
                "`strides` must be given when the image size is unknown, such as (1, 2, 2). "
                f"Received: strides=None, input_shape={input_shape}"
            )
        strides = tiny_strides(min(height, width))
    x = images = keras.Input(input_shape, name="images")
    filters_of_blocks = (features // 4, features // 2, features)
    for number, (filters, stride) in enumerate(
        zip(filters_of_blocks, strides, strict=True), start=1
    ):
        conv = layers.Conv2D(
            filters,
            3,
            stride,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            name=f"block{number}_conv",
        )
        x = BatchNorm(name=f"block{number}_norm")(conv(x))
        x = layers.ReLU(name=f"block{number}")(x)
    pooled = layers.GlobalAveragePooling2D(dtype="float32", name="features")(x)
    return keras.Model(images, pooled, name=name or "tiny")


def tiny_strides(side: int) -> tuple[int, int, int]:
    """Returns the strides of the blocks for images whose shorter side has `side` pixels.

    Example:
        >>> tiny_strides(8), tiny_strides(32)
        ((1, 2, 1), (1, 2, 2))
    """
    strides = [1]
    for _ in range(2):
        stride = 2 if side >= 2 * _MIN_SIDE else 1
        side = -(-side // stride)
        strides.append(stride)
    return strides[0], strides[1], strides[2]
