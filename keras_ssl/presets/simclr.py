"""The preset of SimCLR."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_ssl.presets.preset import ImageFacts, Preset

if TYPE_CHECKING:
    import keras

    from keras_ssl.methods import SelfSupervised


@dataclass(frozen=True)
class SimCLR(Preset):
    """Two views of an image attract, all other images of the batch repel. Needs large batches.

    Source: Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations".
    """

    method = "simclr"
    large_policy = "simclr"
    small_policy = "simclr-small"
    minimums = {"embedding": 1, "head_layers": 0}

    temperature: float = 0.5
    """Temperature of the loss. 0.5 is the paper's best for CIFAR-10 (section B.9); use
    0.1 for ImageNet."""
    embedding: int = 128
    """Dimension of the embeddings that the loss compares (section 3)."""
    head_layers: int = 2
    """Dense layers of the projection head: 2 in the paper (section 4.2), 1 for a linear
    head, 0 for none; then --embedding has no effect."""

    def build_model(self, backbone: "keras.Model", images: ImageFacts) -> "SelfSupervised":
        """Returns the untrained method around a backbone."""
        from keras_ssl import layers, methods

        head = layers.ProjectionHead(self.embedding, depth=self.head_layers)
        return methods.SimCLR(backbone, head, self.temperature, probe=self._build_probe(images))
