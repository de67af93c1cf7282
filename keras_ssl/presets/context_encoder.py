"""The preset of the context encoder."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from keras_ssl.presets.decoder_filters import decoder_filters
from keras_ssl.presets.lookup import spell
from keras_ssl.presets.preset import ImageFacts, Preset

if TYPE_CHECKING:
    from typing import Self

    import keras

    from keras_ssl.methods import SelfSupervised

_REGIONS = ("random", "center")


@dataclass(frozen=True)
class ContextEncoder(Preset):
    """Fills holes in images, by squared error.

    Source: Pathak et al. 2016, "Context Encoders: Feature Learning by Inpainting".
    """

    method = "context-encoder"
    large_policy = "crop-flip"
    small_policy = "crop-flip"
    view_count = 1
    reference_optimizer = "adam"
    minimums = {"filters": 1}

    region: str = "random"
    """random: irregular holes of 20 to 30 % of an image, for features; center: the
    central half of each side, for pictures (section 3.3)."""
    filters: int | None = None
    """Filters of the decoder's last layer; those before have up to 512. Default: 64 from
    128 pixels on (section 3.1), for smaller images half of the side, at least 16."""

    def spelled(self) -> "Self":
        """Returns a copy in which all names are spelled as in their tables.

        Raises:
            ValueError: if a name is unknown.
        """
        return replace(super().spelled(), region=spell("region", self.region, _REGIONS))

    def build_model(self, backbone: "keras.Model", images: ImageFacts) -> "SelfSupervised":
        """Returns the untrained method around a backbone."""
        from keras_ssl import methods

        return methods.ContextEncoder(backbone, **self._arguments(backbone, images))

    def _arguments(self, backbone: "keras.Model", images: ImageFacts) -> dict[str, Any]:
        from keras_ssl import layers

        shape = tuple(backbone.input_shape[1:])
        return {
            "decoder": layers.Decoder(shape, self._filters(shape), activation="sigmoid"),
            "region": self.region,
            "probe": self._build_probe(images),
        }

    def _filters(self, shape: tuple[int, ...]) -> int:
        return decoder_filters(self.filters, min(shape[:2]))

    def shrink(self) -> "Self":
        """Returns a preset that trains on 64 images within seconds, to check that everything runs."""
        return replace(super().shrink(), filters=8)
