"""The preset of rotation prediction."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_ssl.presets.preset import ImageFacts, Preset

if TYPE_CHECKING:
    import keras

    from keras_ssl.methods import SelfSupervised


@dataclass(frozen=True)
class Rotation(Preset):
    """Predicts by which quarter turn an image was turned. Needs images with an upright position.

    Source: Gidaris et al. 2018, "Unsupervised Representation Learning by Predicting Image Rotations".
    """

    method = "rotation"
    large_policy = "crop-flip"
    small_policy = "crop-flip"
    view_count = 1
    reference_optimizer = "sgd"

    def build_model(self, backbone: "keras.Model", images: ImageFacts) -> "SelfSupervised":
        """Returns the untrained method around a backbone."""
        from keras_ssl import methods

        return methods.Rotation(backbone, probe=self._build_probe(images))
