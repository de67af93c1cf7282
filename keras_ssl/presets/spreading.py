"""The preset of invariant and spreading embeddings."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_ssl.presets.preset import ImageFacts, Preset

if TYPE_CHECKING:
    import keras

    from keras_ssl.methods import SelfSupervised


@dataclass(frozen=True)
class InvariantSpreading(Preset):
    """Two views attract, and each other image of the batch is pushed away on its own. Small batches.

    Source: Ye et al. 2019, "Unsupervised Embedding Learning via Invariant and Spreading Instance
    Feature". Its views (crop, flip, color jitter, grayscale) are those of MoCo v1.
    """

    method = "invariant-spreading"
    large_policy = "moco-v1"
    small_policy = "moco-v1"
    reference_optimizer = "sgd"
    minimums = {"embedding": 1, "spread_weight": 0}

    temperature: float = 0.1
    """Temperature of the loss (section 4)."""
    embedding: int = 128
    """Dimension of the embeddings that the loss compares (section 4)."""
    spread_weight: float = 1.0
    """Weight of the term that pushes other images away (section 3.2)."""

    def build_model(self, backbone: "keras.Model", images: ImageFacts) -> "SelfSupervised":
        """Returns the untrained method around a backbone."""
        from keras_ssl import layers, methods

        return methods.InvariantSpreading(
            backbone,
            layers.MLPHead(self.embedding, depth=1),
            self.temperature,
            self.spread_weight,
            probe=self._build_probe(images),
        )
