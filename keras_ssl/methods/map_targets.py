"""What methods share that predict pixels from the feature maps of a block."""

import keras
import numpy as np
import tensorflow as tf

SHRINKING = 4
"""Side of a view divided by that of the targets, as in Zhang et al. 2016 (56 of 224 pixels)."""


def sample_pixels(images: tf.Tensor) -> tf.Tensor:
    """Returns one of 4 x 4 pixels: `(batch, height, width, c)` to a quarter of height and width.

    A mean of them would be a color that is in no picture: that of two objects at an edge is grayer.
    """
    middle = SHRINKING // 2
    return images[:, middle::SHRINKING, middle::SHRINKING]


def cell_means(images: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Returns the means over the cells of a grid, `(batch, height, width, c)`.

    Pixels that lie in two cells count in both by their share. The sums are matrix products, which
    compile for every device.

    Args:
        images: `(batch, rows, columns, c)` float tensor with static sides.
        height: rows of the grid, at most those of the images.
        width: columns of the grid.
    """
    means = tf.einsum("yh,bhwc->bywc", _cells(height, images.shape[1]), images)
    return tf.einsum("xw,bhwc->bhxc", _cells(width, images.shape[2]), means)


def _cells(count: int, pixels: int) -> np.ndarray:
    """Returns the weight of each pixel in each of `count` equal parts of a side, (count, pixels)."""
    size = pixels / count
    starts, places = size * np.arange(count)[:, None], np.arange(pixels)
    shares = np.minimum(places + 1, starts + size) - np.maximum(places, starts)
    return (np.maximum(0, shares) / size).astype(np.float32)


def check_color(images: tf.Tensor, method: str):
    """Raises ValueError unless images have three channels, and more than 2 pixels on each side."""
    _, height, width, channels = images.shape
    if channels != 3 or min(height, width) <= SHRINKING // 2:
        raise ValueError(
            f"{method} needs views in color, with 3 channels and sides of more than "
            f"{SHRINKING // 2} pixels. Received: views of shape {(height, width, channels)}"
        )


def last_map(backbone: keras.Model, prefix: str = "") -> str:
    """Returns the name of the last layer of a backbone that returns a feature map.

    Args:
        backbone: functional model, whose layers after that map have no weights: they pool it.
        prefix: beginning of the names to consider.

    Raises:
        ValueError: if the backbone has no such layer, as vision transformers, whose only map is that of
            the patches before all blocks.

    Example:
        >>> last_map(keras_ssl.backbones.Tiny((8, 8, 3)))
        'block3'
    """
    layers = backbone.layers if getattr(backbone, "inputs", None) else []
    for layer in reversed([each for each in layers if each.name.startswith(prefix)]):
        if len(getattr(layer.output, "shape", ())) == 4:
            return layer.name
        if layer.weights:
            break
    raise ValueError(
        "`backbone` must be a functional model that pools feature maps, (batch, height, width, "
        "channels), from which pixels are predicted, such as a ResNet. Received: "
        f"{backbone.name!r}, whose features are no pooled maps"
    )
