"""The preset of DeepCluster-v2."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from keras_ssl.presets.preset import ImageFacts, Preset

if TYPE_CHECKING:
    from typing import Self

    import keras

    from keras_ssl.methods import SelfSupervised

_IMAGES_PER_CLUSTER = 10  # at least: otherwise most clusters are single images


@dataclass(frozen=True)
class DeepCluster(Preset):
    """Clusters the embeddings of all images each epoch, and predicts the clusters.

    Source: Caron et al. 2018, "Deep Clustering for Unsupervised Learning of Visual Features"; Caron et
    al. 2020 (SwAV), appendix D, for the second version.
    """

    method = "deep-cluster"
    large_policy = "simclr"
    small_policy = "simclr-small"
    minimums = {"clusterings": 1, "clusters": 2, "embedding": 1}

    clusters: int = 3000
    """Clusters in each clustering; a tenth of the images at most (main_deepclusterv2.py
    of facebookresearch/swav)."""
    clusterings: int = 3
    """Number of clusterings, each with its own classifier."""
    temperature: float = 0.1
    """Temperature of the classifiers."""
    embedding: int = 128
    """Dimension of the embeddings that are clustered."""
    hidden_units: int = 2048
    """Units of the hidden layer of the projection head."""

    def build_model(self, backbone: "keras.Model", images: ImageFacts) -> "SelfSupervised":
        """Returns the untrained method around a backbone."""
        from keras_ssl import layers, methods

        count = max(2, min(self.clusters, images.image_count // _IMAGES_PER_CLUSTER))
        head = layers.MLPHead(self.embedding, self.hidden_units, batch_norm=True, name="projector")
        return methods.DeepCluster(
            backbone,
            head,
            size=images.image_count,
            clusters=(count,) * self.clusterings,
            temperature=self.temperature,
            seed=self.seed,
            probe=self._build_probe(images),
        )

    def shrink(self) -> "Self":
        """Returns a preset that trains on 64 images within seconds, to check that everything runs."""
        return replace(super().shrink(), hidden_units=16)
