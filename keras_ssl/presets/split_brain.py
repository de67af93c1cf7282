"""The preset of split-brain autoencoders."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_ssl.presets.color import build_streams, check_color
from keras_ssl.presets.preset import ImageFacts, Preset

if TYPE_CHECKING:
    import keras

    from keras_ssl.data import Source
    from keras_ssl.methods import SelfSupervised


@dataclass(frozen=True)
class SplitBrain(Preset):
    """One network predicts colors from lightness, another the reverse. Needs images in color.

    Both have half of --width, where the network has a width.

    Source: Zhang et al. 2017, "Split-Brain Autoencoders: Unsupervised Learning by Cross-Channel
    Prediction".
    """

    method = "split-brain"
    large_policy = "crop-flip"
    small_policy = "crop-flip"
    view_count = 1
    reference_optimizer = "adam"
    minimums = {"hidden_units": 1, "lightness_bins": 2}

    hidden_units: int = 256
    """Filters of the convolutions that predict from the last feature maps (as for
    colorization)."""
    lightness_bins: int = 50
    """Number of intervals of the lightness that are told apart: 2 of 100 units each (our
    choice)."""

    def check_images(self, source: "Source") -> Iterator[str]:
        """Yields a text if many images are gray; raises ValueError if all are."""
        return check_color(source, "SplitBrain")

    def build_backbone(self, images: ImageFacts) -> "keras.Model":
        """Returns untrained networks of the lightness and of the color."""
        return build_streams(self, self.view_shape(images)[:2])

    def build_model(self, backbone: "keras.Model", images: ImageFacts) -> "SelfSupervised":
        """Returns the untrained method around a backbone."""
        from keras_ssl import layers, methods

        color_head = layers.MapHead(layers.ColorBins().count, self.hidden_units, name="color_head")
        lightness_head = layers.MapHead(
            self.lightness_bins, self.hidden_units, name="lightness_head"
        )
        return methods.SplitBrain(
            backbone,
            color_head,
            lightness_head,
            self.lightness_bins,
            probe=self._build_probe(images),
        )
