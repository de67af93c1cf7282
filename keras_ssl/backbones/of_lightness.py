"""Backbones that see only the lightness of images in color."""

import keras

from keras_ssl.backbones.copied import copied, sides_of
from keras_ssl.layers import Lightness


def of_lightness(backbone: keras.Model, name: str | None = None) -> keras.Model:
    """Returns a backbone that converts RGB images to their lightness for a network of one channel.

    Exports of it take RGB images, as those of other backbones do. The layers of the network keep their
    names, so that "block3" can be found in the result. They are copies, and have the same weights.

    Args:
        backbone: functional model from images of one channel, `(batch, height, width, 1)`, to
            `(batch, features)`. It receives the lightness divided by 100, which lies in [0, 1].
        name: name of the model; by default that of `backbone` with "_of_lightness".

    Returns:
        A functional model from `(batch, height, width, 3)` images in [0, 1] to `(batch, features)`.

    Raises:
        TypeError: if `backbone` is not a Keras model.
        ValueError: if `backbone` is not functional, does not take images of one channel, or does not
            return one vector per image.

    Example:
        >>> backbone = of_lightness(Tiny((32, 32, 1)))
        >>> backbone(keras.ops.ones((2, 32, 32, 3))).shape
        TensorShape([2, 64])
    """
    images = keras.Input((*sides_of(backbone, 1, "backbone"), 3), name="images")
    features = copied(backbone, Lightness(name="lightness")(images))
    return keras.Model(images, features, name=name or f"{backbone.name}_of_lightness")


def sees_only_lightness(backbone: keras.Model) -> bool:
    """Returns whether a backbone is one of `of_lightness`: nothing but `Lightness` reads its images.

    Example:
        >>> sees_only_lightness(of_lightness(Tiny((32, 32, 1)))), sees_only_lightness(Tiny((32, 32, 3)))
        (True, False)
    """
    if not getattr(backbone, "inputs", None):
        return False
    images = backbone.inputs[0]
    readers = [
        operation
        for operation in backbone.operations
        if not isinstance(operation, keras.layers.InputLayer)
        and any(each is images for each in keras.tree.flatten(operation.input))
    ]
    return bool(readers) and all(isinstance(reader, Lightness) for reader in readers)
