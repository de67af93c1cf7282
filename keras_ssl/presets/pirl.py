"""The preset of PIRL."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_ssl.presets.preset import ImageFacts
from keras_ssl.presets.tile_preset import TilePreset

if TYPE_CHECKING:
    import keras

    from keras_ssl.methods import SelfSupervised


@dataclass(frozen=True)
class PIRL(TilePreset):
    """The embedding of an image equals that of its shuffled tiles; negatives come from a bank.

    Source: Misra and van der Maaten 2020, "Self-Supervised Learning of Pretext-Invariant
    Representations".
    """

    method = "pirl"
    large_policy = "pirl"
    small_policy = "pirl"
    minimums = {"embedding": 1, "negatives": 1}

    temperature: float = 0.07
    """Temperature of the loss (section 3.3)."""
    embedding: int = 128
    """Dimension of the embeddings that the loss compares (section 3.3)."""
    negatives: int | None = None
    """Negatives of each step. Default: 32,000 (section 3.3), or half of the number of
    images if that is less."""
    tile_weight: float = 0.5
    """Weight of the loss of the tiles, 0 to 1; that of the image is 1 minus it (section
    3.3)."""

    def build_model(self, backbone: "keras.Model", images: ImageFacts) -> "SelfSupervised":
        """Returns the untrained method around a backbone."""
        from keras_ssl import layers, methods

        return methods.PIRL(
            backbone,
            layers.MLPHead(self.embedding, depth=1),
            size=images.image_count,
            negatives=self.negatives or min(32_000, max(1, images.image_count // 2)),
            temperature=self.temperature,
            tile_weight=self.tile_weight,
            share=self.tile_share,
            probe=self._build_probe(images),
        )

    def check(self):
        """Checks names and numbers, without importing TensorFlow.

        Raises:
            ValueError: if an option makes no sense.
        """
        super().check()
        if not 0 <= self.tile_weight <= 1:
            raise ValueError(
                f"`tile_weight` must lie in [0, 1]. Received: tile_weight={self.tile_weight}"
            )
