"""The preset of contrastive multiview coding."""

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
class CMC(Preset):
    """Lightness and color of an image attract, those of other images repel. Needs images in color.

    The two networks have half of --width, where the network has a width.

    Source: Tian et al. 2020, "Contrastive Multiview Coding".
    """

    method = "cmc"
    large_policy = "crop-flip"
    small_policy = "crop-flip"
    view_count = 1
    reference_optimizer = "sgd"
    minimums = {"embedding": 1}

    temperature: float = 0.07
    """Temperature of the loss (`train_CMC.py` of the reference)."""
    embedding: int = 128
    """Dimension of the embeddings that the loss compares (`train_CMC.py`)."""

    def check_images(self, source: "Source") -> Iterator[str]:
        """Yields a text if many images are gray; raises ValueError if all are."""
        return check_color(source, "CMC")

    def build_backbone(self, images: ImageFacts) -> "keras.Model":
        """Returns untrained networks of the lightness and of the color."""
        return build_streams(self, self.view_shape(images)[:2])

    def build_model(self, backbone: "keras.Model", images: ImageFacts) -> "SelfSupervised":
        """Returns the untrained method around a backbone."""
        from keras_ssl import layers, methods

        return methods.CMC(
            backbone,
            layers.MLPHead(self.embedding, depth=1, name="lightness_head"),
            layers.MLPHead(self.embedding, depth=1, name="color_head"),
            self.temperature,
            probe=self._build_probe(images),
        )
