"""The preset of Exemplar."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_ssl.presets.preset import ImageFacts, Preset

if TYPE_CHECKING:
    import keras

    from keras_ssl.methods import SelfSupervised


@dataclass(frozen=True)
class Exemplar(Preset):
    """Each image is a class: a softmax over all images recognizes its views. Small data only.

    Source: Dosovitskiy et al. 2014, "Discriminative Unsupervised Feature Learning with Convolutional
    Neural Networks". Its transformations (shift, scale, contrast, color) are most similar to MoCo v1's.
    """

    method = "exemplar"
    large_policy = "moco-v1"
    small_policy = "moco-v1"
    view_count = 1
    reference_optimizer = "sgd"

    def build_model(self, backbone: "keras.Model", images: ImageFacts) -> "SelfSupervised":
        """Returns the untrained method around a backbone."""
        from keras_ssl import methods

        return methods.Exemplar(backbone, images.image_count, probe=self._build_probe(images))
