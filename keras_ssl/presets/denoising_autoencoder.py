"""The preset of the denoising autoencoder."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from keras_ssl.presets.decoder_filters import decoder_filters
from keras_ssl.presets.lookup import spell
from keras_ssl.presets.preset import ImageFacts, Preset

if TYPE_CHECKING:
    from typing import Self

    import keras

    from keras_ssl.methods import SelfSupervised

_NOISES = ("masking", "salt-and-pepper", "gaussian")


@dataclass(frozen=True)
class DenoisingAutoencoder(Preset):
    """Restores images from noisy ones. A baseline for other methods.

    Source: Vincent et al. 2008, "Extracting and Composing Robust Features with Denoising Autoencoders".
    """

    method = "denoising-autoencoder"
    large_policy = "crop-flip"
    small_policy = "crop-flip"
    view_count = 1
    reference_optimizer = "adam"
    minimums = {"filters": 1}

    noise: str = "masking"
    """masking (pixels become 0), salt-and-pepper (0 or 1) or gaussian (Vincent et al.
    2010)."""
    amount: float = 0.25
    """Share of the pixels that change; for gaussian the standard deviation, where pixels
    are 0 to 1. 0.25 masked is one of the paper's settings (section 4)."""
    filters: int | None = None
    """Filters of the decoder's last layer; those before have up to 512. Default: 64 from
    128 pixels on (Pathak et al. 2016), for smaller images half of the side, at least 16."""

    def check(self):
        """Checks names and numbers, without importing TensorFlow.

        Raises:
            ValueError: if an option makes no sense.
        """
        super().check()
        if not 0 <= self.amount <= 1:
            raise ValueError(f"`amount` must lie in [0, 1]. Received: amount={self.amount}")

    def spelled(self) -> "Self":
        """Returns a copy in which all names are spelled as in their tables.

        Raises:
            ValueError: if a name is unknown.
        """
        return replace(super().spelled(), noise=spell("noise", self.noise, _NOISES))

    def build_model(self, backbone: "keras.Model", images: ImageFacts) -> "SelfSupervised":
        """Returns the untrained method around a backbone."""
        from keras_ssl import layers, methods

        shape = tuple(backbone.input_shape[1:])
        return methods.DenoisingAutoencoder(
            backbone,
            layers.Decoder(shape, decoder_filters(self.filters, min(shape[:2]))),
            self.noise,
            self.amount,
            probe=self._build_probe(images),
        )

    def shrink(self) -> "Self":
        """Returns a preset that trains on 64 images within seconds, to check that everything runs."""
        return replace(super().shrink(), filters=8)
