"""The preset of MoCo."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from keras_ssl.presets.momentum import QueuePreset
from keras_ssl.presets.preset import ImageFacts

if TYPE_CHECKING:
    from typing import Self

    import keras

    from keras_ssl.methods import SelfSupervised

_MOST_GROUPS = 8  # MoCo trained on eight GPUs
_SMALLEST_GROUP = 16  # images; MoCo's GPUs had 32


@dataclass(frozen=True)
class MoCo(QueuePreset):
    """Negatives come from a queue of earlier embeddings, so that small batches suffice.

    Source: He et al. 2020, "Momentum Contrast for Unsupervised Visual Representation Learning"; Chen et
    al. 2020, "Improved Baselines with Momentum Contrastive Learning".
    """

    method = "moco"
    large_policy = "moco-v2"
    small_policy = "moco-v2-small"
    reference_optimizer = "sgd"
    minimums = {"embedding": 1, "groups": 1}

    temperature: float = 0.2
    """Temperature of the loss (MoCo v2, section 3)."""
    embedding: int = 128
    """Dimension of the embeddings that the loss compares."""
    symmetric: bool = False
    """Use each view as query and as key in turn, as in the reference's CIFAR-10
    notebook: better, at twice the computation."""
    groups: int | None = None
    """Number of parts of the batch whose statistics are normalized separately (MoCo's
    "shuffling BN"); 1 for none. Default: the most, up to 8, that leave at least 16
    images to each and divide evenly over the devices."""

    def build_model(self, backbone: "keras.Model", images: ImageFacts) -> "SelfSupervised":
        """Returns the untrained method around a copy of a backbone with split batch normalization.

        Raises:
            ValueError: if the batch normalization of the backbone cannot be split.
        """
        from keras_ssl import layers, methods

        return methods.MoCo(
            _split(backbone, self.groups or 1),
            layers.MLPHead(self.embedding),
            self.queue_size or 1,  # a number once resolved
            self.temperature,
            self.symmetric,
            probe=self._build_probe(images),
        )

    def resolve(self, images: ImageFacts, replicas: int = 1, *args, **kwargs) -> "Self":
        """Returns a copy in which every option has a value; see `Preset.resolve`."""
        preset = super().resolve(images, replicas, *args, **kwargs)
        batch_size = int(preset.batch_size or 0)  # a number once resolved
        groups = self.groups or _default_groups(batch_size, replicas * self.chunks)
        if groups != 1 and (batch_size % groups or groups % (replicas * self.chunks)):
            raise ValueError(
                "`groups` must be 1, or divide `batch_size` and be a multiple of the number of "
                f"replicas times `chunks`. Received: groups={groups}, batch_size={batch_size}, "
                f"{replicas} replicas, chunks={self.chunks}"
            )
        return replace(preset, groups=groups)

    def shrink(self) -> "Self":
        """Returns a preset that trains on 64 images within seconds, to check that everything runs."""
        return replace(super().shrink(), groups=2)


def _default_groups(batch_size: int, parts: int) -> int:
    """Returns the largest number of groups up to 8, or one per part, with at least 16 images each."""
    for groups in range(max(_MOST_GROUPS, parts), 1, -1):
        if groups % parts == batch_size % groups == 0 and batch_size // groups >= _SMALLEST_GROUP:
            return groups
    return 1


def _split(backbone: "keras.Model", groups: int) -> "keras.Model":
    import keras

    from keras_ssl.layers import split_batch_norm

    has_norm = any(
        isinstance(layer, keras.layers.BatchNormalization) for layer in backbone._flatten_layers()
    )
    if groups == 1 or not has_norm:
        return backbone
    try:
        return split_batch_norm(backbone, groups)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "MoCo splits the batch normalization of its backbone, which is not possible for this one. "
            f"Expected: groups=1, which leaves it as it is. Received: groups={groups}, backbone "
            f"{backbone.name!r}. {error}"
        ) from error
