"""The preset of colorization."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_ssl.presets.backbones import build_backbone
from keras_ssl.presets.color import check_color
from keras_ssl.presets.preset import ImageFacts, Preset

if TYPE_CHECKING:
    import keras

    from keras_ssl.data import Source
    from keras_ssl.methods import SelfSupervised


@dataclass(frozen=True)
class Colorization(Preset):
    """Predicts the colors of an image from its lightness. Needs images in color.

    Source: Zhang et al. 2016, "Colorful Image Colorization".
    """

    method = "colorization"
    large_policy = "crop-flip"
    small_policy = "crop-flip"
    view_count = 1
    reference_optimizer = "adam"
    minimums = {"hidden_units": 1}

    hidden_units: int = 256
    """Filters of the convolution that predicts colors from the last feature maps (the
    reference's conv8 has 256)."""
    rebalance: bool = True
    """Larger weights for rare colors (section 2.2), from the colors of the training
    images. Without them, predicted colors are dull."""

    def check_images(self, source: "Source") -> Iterator[str]:
        """Yields a text if many images are gray; raises ValueError if all are."""
        return check_color(source, "Colorization")

    def measure(self, source: "Source") -> tuple[float, ...] | None:
        """Returns the prior of the colors, of which rare ones get larger weights."""
        from keras_ssl.data import color_prior

        return color_prior(source) if self.rebalance else None

    def build_backbone(self, images: ImageFacts) -> "keras.Model":
        """Returns an untrained network of the lightness."""
        from keras_ssl import backbones

        sides = self.view_shape(images)[:2]
        network = build_backbone(self.backbone, self.width, (*sides, 1), self.input_scale)
        return backbones.of_lightness(network)

    def build_model(self, backbone: "keras.Model", images: ImageFacts) -> "SelfSupervised":
        """Returns the untrained method around a backbone."""
        from keras_ssl import layers, methods

        head = layers.MapHead(layers.ColorBins().count, self.hidden_units)
        probe = self._build_probe(images)
        return methods.Colorization(backbone, head, images.measured, probe=probe)
