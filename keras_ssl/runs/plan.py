"""Describes a run before it starts: what will be trained, for how long, and on what."""

import math
import os

import keras
import tensorflow as tf

from keras_ssl import distribute
from keras_ssl.methods import SelfSupervised
from keras_ssl.methods.momentum import MomentumMethod
from keras_ssl.presets import Preset

# A target network that is mostly random is a poor teacher: with 29% left after 1,248 steps, MoCo's
# linear accuracy was 3 points and BYOL's 5 below that of their best momentum (docs/results.md).
_MOST_RANDOM_SHARE = 0.1


def describe(
    preset: Preset,
    model: SelfSupervised,
    image_count: int,
    strategy: distribute.Strategy,
    chosen_batch: bool = True,
) -> list[str]:
    """Returns the lines to print before training.

    Args:
        preset: complete settings.
        model: the method that it built.
        image_count: number of training images.
        strategy: distribution of the training.
        chosen_batch: whether the user chose the batch size. If not, and it is smaller than usual, the
            reason is given.

    Example:
        ```python
        for line in describe(preset, model, len(images), strategy):
            print(line)
        ```
    """
    batch_size = int(preset.batch_size or 0)
    steps = image_count // batch_size
    # The backbone may take images of any size; a view has the size of the preset.
    height, width = (side or preset.image_size for side in model.backbone.input_shape[1:3])
    channels = int(model.backbone.input_shape[3])
    whole = sum(math.prod(weight.shape) for weight in model.trainable_variables)
    lines = [
        f"Method: {preset.method}, {_network(preset)} with "
        f"{model.backbone.count_params():,} parameters; {whole:,} are trained, with the heads",
        f"Views: {height} x {width} pixels, {_count(channels, 'channel')}, policy {preset.policy}",
        f"Length: {_count(preset.epochs, 'epoch')} of {_count(steps, 'step')} of {batch_size} "
        f"{'clips' if model.takes_clips else 'images'}, {_count(preset.epochs * steps, 'step')} in all",
        f"Device: {_devices(strategy)}, {preset.precision}",
    ]
    if not chosen_batch and 2 * batch_size > image_count:
        lines.append(
            f"The default batch size for {image_count} images is {batch_size}, the largest power of "
            "two that they fill. `batch_size` (--batch-size) changes it."
        )
    return [*lines, *_few_steps(preset, model, preset.epochs * steps)]


def accelerated() -> bool:
    """Returns whether there is a GPU or a TPU."""
    return any(tf.config.list_logical_devices(kind) for kind in ("GPU", "TPU"))


def _network(preset: Preset) -> str:
    return preset.backbone if preset.width == 1 else f"{preset.backbone} (width {preset.width:g})"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _devices(strategy: distribute.Strategy) -> str:
    """Returns the devices in words, such as "2 x GPU" or "CPU (2 cores)"."""
    kinds = [kind for kind in ("TPU", "GPU") if tf.config.list_logical_devices(kind)]
    kind = kinds[0] if kinds else "CPU"
    replicas = strategy.num_replicas_in_sync
    name = kind if replicas == 1 else f"{replicas} x {kind}"
    if kinds:
        return name
    available = getattr(os, "sched_getaffinity", None)
    cores = len(available(0)) if available else os.cpu_count() or 1
    return f"{name} ({_count(cores, 'core')})"


def _few_steps(preset: Preset, model: keras.Model, steps: int) -> list[str]:
    """Returns a warning if the target network stays close to its random initialization."""
    if not isinstance(model, MomentumMethod):
        return []
    first = float(getattr(preset, "momentum", 0.0))
    final = float(getattr(preset, "final_momentum", None) or first)
    random_share = _random_share(first, final, steps)
    if random_share <= _MOST_RANDOM_SHARE:
        return []
    return [
        f"Few steps: after {steps:,} steps with a momentum of {first:g}, {random_share:.0%} of the "
        f"target network is still its random initialization. With few steps, use the method simclr, "
        "which has no target network, or a lower `momentum`, such as 0.99."
    ]


def _random_share(first: float, final: float, steps: int) -> float:
    """Returns what is left of a target's initial weights after steps whose momentum rises."""
    # The mean of a cosine schedule is that of its ends, and the momenta are close to 1.
    return ((first + final) / 2) ** steps
