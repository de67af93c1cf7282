"""The preset of relative location."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_ssl.presets.preset import ImageFacts
from keras_ssl.presets.tile_preset import TilePreset

if TYPE_CHECKING:
    import keras

    from keras_ssl.methods import SelfSupervised


@dataclass(frozen=True)
class RelativeLocation(TilePreset):
    """Predicts at which of eight places around the center a tile of the image lies.

    Source: Doersch et al. 2015, "Unsupervised Visual Representation Learning by Context Prediction".
    """

    method = "relative-location"
    large_policy = "crop-flip"
    small_policy = "crop-flip"
    view_count = 1
    minimums = {"hidden_units": 1}

    gray: float = 0.66
    """Share of images without color, because colored fringes of lenses tell where a tile
    lies (google/revisiting-self-supervised)."""
    hidden_units: int = 4096
    """Units of the hidden layer of the classifier (google/revisiting-self-supervised)."""

    def build_model(self, backbone: "keras.Model", images: ImageFacts) -> "SelfSupervised":
        """Returns the untrained method around a backbone."""
        from keras_ssl import layers, methods

        classifier = layers.MLPHead(8, self.hidden_units, batch_norm=True, name="classifier")
        probe = self._build_probe(images)
        return methods.RelativeLocation(
            backbone, classifier, self.tile_share, self.gray, probe=probe
        )
