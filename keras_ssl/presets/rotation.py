"""The preset of rotation prediction."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_ssl.presets.preset import ImageFacts, Preset

if TYPE_CHECKING:
    import keras

    from keras_ssl.data import Source
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

    def check_images(self, source: "Source") -> Iterator[str]:
        """Yields a warning if the turns of a sample of the images cannot be told apart."""
        from keras_ssl.evaluate import has_upright

        if not has_upright(source):
            yield (
                f"The images of {source.name!r} seem to have no upright: in a sample, a linear "
                "classifier on random features found quarter turns no more often than by chance. "
                "Rotation teaches the network little about such images; use another method"
            )

    def build_model(self, backbone: "keras.Model", images: ImageFacts) -> "SelfSupervised":
        """Returns the untrained method around a backbone."""
        from keras_ssl import methods

        return methods.Rotation(backbone, probe=self._build_probe(images))
