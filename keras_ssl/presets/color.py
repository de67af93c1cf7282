"""What the presets of methods share that learn from the colors of images."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from keras_ssl.presets.backbones import build_backbone, has_width

if TYPE_CHECKING:
    import keras

    from keras_ssl.data import Source
    from keras_ssl.presets.preset import Preset

_MANY = 0.1  # share of gray images from which a message is worth it


def check_color(source: "Source", method: str) -> Iterator[str]:
    """Yields a text if many images of a source are gray.

    Raises:
        ValueError: if the images do not have three channels, or all those of a sample are gray.
    """
    from keras_ssl.data.image_sample import gray_share

    channels = source.image_shape[2]
    if channels != 3:
        raise ValueError(
            f"{method} learns from the colors of images, with 3 channels. "
            f"Received: {source.name!r}, whose images have {channels}"
        )
    share = gray_share(source)
    if share == 1:
        raise ValueError(
            f"{method} learns from the colors of images. "
            f"Received: {source.name!r}, of which all images looked at are gray"
        )
    if share >= _MANY:
        yield (
            f"{method} learns from the colors of images, but about {share:.0%} of these images are "
            "gray. It learns little from them."
        )


def build_streams(preset: "Preset", sides: tuple[int, int]) -> "keras.Model":
    """Returns a backbone of two networks of half the width, of the lightness and of the color.

    Networks whose width cannot be chosen have their full width, so that there are twice as many
    features.
    """
    from keras_ssl import backbones

    width = preset.width / 2 if has_width(preset.backbone) else preset.width
    lightness, color = (
        build_backbone(preset.backbone, width, (*sides, channels), preset.input_scale)
        for channels in (1, 2)
    )
    return backbones.two_streams(lightness, color)
