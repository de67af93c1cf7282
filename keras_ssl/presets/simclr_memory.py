"""The preset of SimCLR with a momentum memory."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_ssl.presets.momentum import QueuePreset
from keras_ssl.presets.preset import ImageFacts

if TYPE_CHECKING:
    import keras

    from keras_ssl.methods import SelfSupervised


@dataclass(frozen=True)
class SimCLRMemory(QueuePreset):
    """SimCLRv2's SimCLR with MoCo's momentum network and queue: more negatives than the batch holds.

    Source: Chen et al. 2020, "Big Self-Supervised Models are Strong Semi-Supervised Learners",
    section 2.
    """

    method = "simclr-memory"
    large_policy = "simclr"
    small_policy = "simclr-small"
    minimums = {"embedding": 1, "head_layers": 0}

    temperature: float = 0.1
    """Temperature of the loss (section A of the paper)."""
    embedding: int = 128
    """Dimension of the embeddings that the loss compares."""
    head_layers: int = 3
    """Dense layers of the projection head: 3 in SimCLRv2 (section 2), 1 for a linear
    head, 0 for none; then --embedding has no effect."""

    def build_model(self, backbone: "keras.Model", images: ImageFacts) -> "SelfSupervised":
        """Returns the untrained method around a backbone."""
        from keras_ssl import layers, methods

        return methods.SimCLRMemory(
            backbone,
            layers.ProjectionHead(self.embedding, depth=self.head_layers),
            self.queue_size or 1,  # a number once resolved
            self.temperature,
            probe=self._build_probe(images),
        )
