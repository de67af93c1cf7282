"""SmallResNet: a residual network for small images that trains on a laptop in minutes."""

import keras
from keras import layers

from keras_ssl.layers.batch_norm import BatchNorm


def SmallResNet(  # noqa: N802 (a model's constructor, spelled as one)
    filters: int = 48,
    input_shape: tuple[int | None, int | None, int] = (32, 32, 3),
    name: str | None = None,
) -> keras.Model:
    """Returns a residual network of one convolution and two residual blocks.

    The convolution has stride 2. The blocks have two and four times as many filters, and each halves
    the resolution. With 48 filters the network has 0.65 million parameters. The feature maps are the
    outputs of the layers "block1", "block2" and "block3".

    Args:
        filters: positive number of filters of the first convolution; the output has four times as many
            features.
        input_shape: (height, width, channels), with sides of at least 8 pixels, or `None` for sides of
            any length.
        name: name of the model, "small_resnet" by default.

    Returns:
        A functional model from (batch, height, width, channels) to float32 (batch, 4 * filters).

    Raises:
        ValueError: if `filters` is not positive or a side has fewer than 8 pixels.

    Example:
        >>> SmallResNet(filters=8)(keras.ops.ones((2, 32, 32, 3))).shape
        TensorShape([2, 32])

    Source: basic blocks as in He et al. 2016 ("Deep Residual Learning"). The last batch normalization
    of a block starts with gamma = 0, as in the self-supervised references. The sizes are our choice.
    """
    if filters < 1:
        raise ValueError(f"`filters` must be at least 1. Received: filters={filters}")
    sides = [side for side in input_shape[:2] if side is not None]
    if len(input_shape) != 3 or min(sides, default=8) < 8 or (input_shape[2] or 0) < 1:
        raise ValueError(
            "`input_shape` must be (height, width, channels) with sides of at least 8 pixels. "
            f"Received: input_shape={input_shape}"
        )
    images = keras.Input(input_shape, name="images")
    x = BatchNorm()(_convolution(images, filters, stride=2))
    x = layers.ReLU(name="block1")(x)
    for number, width in ((2, 2 * filters), (3, 4 * filters)):
        shortcut = BatchNorm()(_convolution(x, width, size=1, stride=2))
        x = layers.ReLU()(BatchNorm()(_convolution(x, width, stride=2)))
        x = BatchNorm(gamma_initializer="zeros")(_convolution(x, width))
        x = layers.ReLU(name=f"block{number}")(layers.Add()([x, shortcut]))
    pooled = layers.GlobalAveragePooling2D(dtype="float32", name="features")(x)
    return keras.Model(images, pooled, name=name or "small_resnet")


def _convolution(x, filters, size=3, stride=1):
    return layers.Conv2D(
        filters, size, stride, "same", use_bias=False, kernel_initializer="he_normal"
    )(x)
