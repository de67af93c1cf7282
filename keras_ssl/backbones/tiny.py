"""Tiny: three convolutions, for tests and very small images."""

import keras
from keras import layers

from keras_ssl.layers.batch_norm import BatchNorm

_MIN_SIDE = 4  # pixels: strided convolutions keep at least this side


def Tiny(  # noqa: N802 (a model's constructor, spelled as one)
    input_shape: tuple[int, int, int] = (32, 32, 3),
    features: int = 64,
    name: str | None = None,
) -> keras.Model:
    """Returns a small network that maps images to globally average-pooled features.

    It has three blocks of 3x3 convolution, batch normalization and ReLU, with a quarter, a half and
    all of the features. The first block has stride 1; the others have stride 2 as long as both sides
    keep at least 4 pixels. The feature maps are the outputs of the layers "block1", "block2" and
    "block3".

    Args:
        input_shape: (height, width, channels); 8x8 pixels are enough.
        features: number of output features, at least 4.
        name: name of the model, "tiny" by default.

    Returns:
        A functional model from (batch, height, width, channels) to float32 (batch, features).

    Raises:
        ValueError: if `features` is less than 4, or `input_shape` is not three positive numbers.

    Example:
        >>> Tiny(input_shape=(8, 8, 1))(keras.ops.ones((2, 8, 8, 1))).shape
        TensorShape([2, 64])
    """
    if features < 4:
        raise ValueError(f"`features` must be at least 4. Received: features={features}")
    if len(input_shape) != 3 or not all(size and size > 0 for size in input_shape):
        raise ValueError(
            "`input_shape` must be (height, width, channels), all positive. "
            f"Received: input_shape={input_shape}"
        )
    x = images = keras.Input(input_shape, name="images")
    for number, filters in enumerate((features // 4, features // 2, features), start=1):
        stride = 2 if number > 1 and min(x.shape[1:3]) >= 2 * _MIN_SIDE else 1
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
