"""The preset of the memory bank."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_ssl.presets.preset import ImageFacts, Preset

if TYPE_CHECKING:
    import keras

    from keras_ssl.methods import SelfSupervised


@dataclass(frozen=True)
class MemoryBank(Preset):
    """Negatives come from a bank that holds an embedding of every image.

    Source: Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination".
    """

    method = "memory-bank"
    large_policy = "moco-v1"
    small_policy = "moco-v1"
    reference_optimizer = "sgd"
    minimums = {"embedding": 1}

    temperature: float = 0.07
    """Temperature of the loss (section 3.1)."""
    embedding: int = 128
    """Dimension of the embeddings that the loss compares (section 3.1)."""

    def build_model(self, backbone: "keras.Model", images: ImageFacts) -> "SelfSupervised":
        """Returns the untrained method around a backbone."""
        from keras_ssl import layers, methods

        return methods.MemoryBank(
            backbone,
            layers.MLPHead(self.embedding, depth=1),
            size=images.image_count,
            temperature=self.temperature,
            probe=self._build_probe(images),
        )
