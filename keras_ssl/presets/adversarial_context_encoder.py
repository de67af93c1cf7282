"""The preset of the context encoder with a discriminator."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_ssl.presets.context_encoder import ContextEncoder
from keras_ssl.presets.preset import ImageFacts

if TYPE_CHECKING:
    import keras

    from keras_ssl.methods import SelfSupervised


@dataclass(frozen=True)
class AdversarialContextEncoder(ContextEncoder):
    """Fills holes in images so that a discriminator takes them for real. Sharper, for pictures.

    Source: Pathak et al. 2016, "Context Encoders: Feature Learning by Inpainting".
    """

    method = "adversarial-context-encoder"

    adversarial_weight: float = 0.001
    """Weight of deceiving the discriminator, in [0, 1]; the squared error has the rest
    (section 3.2 and the released code)."""

    def check(self):
        """Checks names and numbers, without importing TensorFlow.

        Raises:
            ValueError: if an option makes no sense.
        """
        super().check()
        if not 0 <= self.adversarial_weight <= 1:
            raise ValueError(
                "`adversarial_weight` must lie in [0, 1]. "
                f"Received: adversarial_weight={self.adversarial_weight}"
            )

    def build_model(self, backbone: "keras.Model", images: ImageFacts) -> "SelfSupervised":
        """Returns the untrained method around a backbone."""
        from keras_ssl import layers, methods

        filters = self._filters(tuple(backbone.input_shape[1:]))
        return methods.AdversarialContextEncoder(
            backbone,
            discriminator=layers.Discriminator(filters, name="discriminator"),
            adversarial_weight=self.adversarial_weight,
            **self._arguments(backbone, images),
        )
