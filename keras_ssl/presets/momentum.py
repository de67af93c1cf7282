"""Options of the methods with a target network."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from keras_ssl.presets.preset import ImageFacts, Preset

if TYPE_CHECKING:
    from typing import Self

    import keras

_LARGEST_QUEUE = 65536  # MoCo's


@dataclass(frozen=True)
class MomentumPreset(Preset):
    """A preset whose method has a target network, a moving average of the trained one."""

    momentum: float = 0.999
    """Share of the target network that is kept at each step (He et al. 2020, section
    4.1). Use 0.99 for runs of few steps."""
    final_momentum: float | None = None
    """Momentum at the end of training. Default: the same as at the beginning."""

    def resolve(self, images: ImageFacts, *args: Any, **kwargs: Any) -> "Self":
        """Returns a copy in which every option has a value; see `Preset.resolve`."""
        preset = super().resolve(images, *args, **kwargs)
        final = self.momentum if self.final_momentum is None else self.final_momentum
        return replace(preset, final_momentum=final)

    def build_callbacks(self) -> "list[keras.callbacks.Callback]":
        """Returns the schedule of the momentum."""
        from keras_ssl.callbacks import MomentumEncoder

        final = self.momentum if self.final_momentum is None else self.final_momentum
        return [MomentumEncoder(self.momentum, final)]


@dataclass(frozen=True)
class QueuePreset(MomentumPreset):
    """A preset whose method compares with a queue of earlier embeddings of the target network."""

    minimums = {"queue_size": 1}

    queue_size: int | None = None
    """Number of keys in the queue. Default: half the number of images, at most 65536
    (He et al. 2020)."""

    def resolve(self, images: ImageFacts, *args: Any, **kwargs: Any) -> "Self":
        """Returns a copy in which every option has a value; see `Preset.resolve`."""
        preset = super().resolve(images, *args, **kwargs)
        # A queue with every image in it would hold an older key of each image as its negative.
        default = min(_LARGEST_QUEUE, max(1, images.image_count // 2))
        return replace(preset, queue_size=self.queue_size or default)

    def shrink(self) -> "Self":
        """Returns a preset that trains on 64 images within seconds, to check that everything runs."""
        return replace(super().shrink(), queue_size=40)
