"""The preset of contrastive predictive coding."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from keras_ssl.presets.preset import ImageFacts, Preset

if TYPE_CHECKING:
    from typing import Self

    import keras

    from keras_ssl.methods import SelfSupervised


@dataclass(frozen=True)
class CPC(Preset):
    """Predicts the patches further down in an image from those above. No batch normalization.

    Source: van den Oord et al. 2018, "Representation Learning with Contrastive Predictive Coding".
    """

    method = "cpc"
    large_policy = "crop-flip"
    small_policy = "crop-flip"
    view_count = 1
    reference_optimizer = "adam"
    minimums = {"predictions": 1, "context_units": 1}

    predictions: int = 5
    """Rows that are predicted, from the second one below on (section 3.2)."""
    context_units: int | None = None
    """Filters of the context network. Default: a quarter of the features, at most 256 (Henaff
    et al. 2019, appendix: 256 for large networks)."""

    def build_backbone(self, images: ImageFacts) -> "keras.Model":
        """Returns the untrained backbone, with layer instead of batch normalization."""
        from keras_ssl import layers

        return layers.without_batch_norm(super().build_backbone(images))

    def build_model(self, backbone: "keras.Model", images: ImageFacts) -> "SelfSupervised":
        """Returns the untrained method around a backbone."""
        from keras_ssl import layers, methods

        units = self.context_units or min(256, max(16, backbone.output_shape[-1] // 4))
        context = layers.ContextNetwork(units)
        probe = self._build_probe(images)
        return methods.CPC(
            layers.without_batch_norm(backbone),
            predictions=self.predictions,
            context=context,
            probe=probe,
        )

    def shrink(self) -> "Self":
        """Returns a preset that trains on 64 images within seconds, to check that everything runs."""
        return replace(super().shrink(), context_units=16)
