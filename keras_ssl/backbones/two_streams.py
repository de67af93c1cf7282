"""Backbones of two networks: one sees the lightness of an image, the other its color."""

import keras

from keras_ssl.backbones.copied import copied, sides_of
from keras_ssl.layers import ABChannels, Lightness

STREAMS = ("lightness", "color")
_JOINED = "features"


def two_streams(lightness: keras.Model, color: keras.Model, name: str | None = None) -> keras.Model:
    """Returns a backbone that joins the features of two networks, of the lightness and of the color.

    Neither network sees what the other does, so that a method can train each with the channels of the
    other. Exports take RGB images, as those of other backbones do. The layers of the networks are
    copies, with the same weights; "block3" becomes "lightness_block3" and "color_block3".

    Args:
        lightness: functional model from images of one channel, `(batch, height, width, 1)`, to
            features. It receives the lightness of Lab divided by 100, in [0, 1].
        color: functional model from images of two channels, `(batch, height, width, 2)`, to features.
            It receives a and b of Lab divided by 110, in [-1, 1].
        name: name of the model, "two_streams" by default.

    Returns:
        A functional model from `(batch, height, width, 3)` images in [0, 1] to float32 features: those
        of `lightness`, followed by those of `color`.

    Raises:
        TypeError: if a network is not a Keras model.
        ValueError: if a network is not functional, takes another number of channels, or does not return
            one vector per image; or if the two take images of different sizes.

    Example:
        >>> backbone = two_streams(Tiny((32, 32, 1), features=32), Tiny((32, 32, 2), features=32))
        >>> backbone(keras.ops.ones((2, 32, 32, 3))).shape
        TensorShape([2, 64])

    Source: Zhang et al. 2017, "Split-Brain Autoencoders", section 3.1; Tian et al. 2020, "Contrastive
    Multiview Coding", section 3.
    """
    sides = sides_of(lightness, 1, "lightness"), sides_of(color, 2, "color")
    if sides[0] != sides[1]:
        raise ValueError(
            "Both networks must take images of the same size. "
            f"Received: (height, width) {sides[0]} of `lightness`, {sides[1]} of `color`"
        )
    images = keras.Input((*sides[0], 3), name="images")
    h_lightness = copied(lightness, Lightness(name="lightness")(images), "lightness_")
    h_color = copied(color, ABChannels(name="color")(images), "color_")
    joined = keras.layers.Concatenate(dtype="float32", name=_JOINED)([h_lightness, h_color])
    return keras.Model(images, joined, name=name or "two_streams")


def stream_sizes(backbone: keras.Model) -> tuple[int, int]:
    """Returns the numbers of features of the lightness and of the color in a model of `two_streams`.

    Raises:
        ValueError: if the model was not made by `two_streams`.

    Example:
        >>> stream_sizes(two_streams(Tiny((32, 32, 1), features=16), Tiny((32, 32, 2), features=32)))
        (16, 32)
    """
    layers = {layer.name: layer for layer in getattr(backbone, "layers", [])}
    joined, kinds = layers.get(_JOINED), [type(layers.get(stream)) for stream in STREAMS]
    if not isinstance(joined, keras.layers.Concatenate) or kinds != [Lightness, ABChannels]:
        raise ValueError(
            "`backbone` must be made by keras_ssl.backbones.two_streams(lightness, color), whose "
            "networks see the lightness and the color. "
            f"Received: {getattr(backbone, 'name', backbone)!r}"
        )
    h_lightness, h_color = joined.input
    return h_lightness.shape[-1], h_color.shape[-1]
