"""The preset of BYOL."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from keras_ssl.presets.momentum import MomentumPreset
from keras_ssl.presets.preset import ImageFacts

if TYPE_CHECKING:
    from typing import Self

    import keras

    from keras_ssl.methods import SelfSupervised


@dataclass(frozen=True)
class BYOL(MomentumPreset):
    """One view's embedding predicts a target network's embedding of the other; no negatives.

    Source: Grill et al. 2020, "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning".
    """

    method = "byol"
    large_policy = "byol"
    small_policy = "byol-small"
    minimums = {"embedding": 1, "hidden_units": 1}

    momentum: float = 0.996
    """Share of the target network that is kept at each step, at the beginning (section
    3.3). Use 0.97 for runs of few steps."""
    final_momentum: float = 1.0
    """Momentum at the end of training (section 3.3)."""
    embedding: int = 256
    """Dimension of the embeddings that the loss compares (section 3.3)."""
    hidden_units: int = 4096
    """Units of the hidden layer of projector and predictor (section 3.3)."""

    def build_model(self, backbone: "keras.Model", images: ImageFacts) -> "SelfSupervised":
        """Returns the untrained method around a backbone."""
        from keras_ssl import layers, methods

        head: dict[str, Any] = {
            "units": self.embedding,
            "hidden_units": self.hidden_units,
            "batch_norm": True,
        }
        projector = layers.MLPHead(**head)
        predictor = layers.MLPHead(**head, name="predictor")
        return methods.BYOL(backbone, projector, predictor, probe=self._build_probe(images))

    def shrink(self) -> "Self":
        """Returns a preset that trains on 64 images within seconds, to check that everything runs."""
        return replace(super().shrink(), hidden_units=16)
