"""Advice for a ResNet without an accelerator: the hours with a smaller network."""

import random
import time

import keras
import tensorflow as tf

from keras_ssl.callbacks.pace import format_duration
from keras_ssl.presets import ImageFacts, Preset, build_backbone
from keras_ssl.runs.plan import accelerated

_SMALLER = "small-resnet"
_BATCH = 16  # images: enough for the speed per image, few enough to be measured in seconds
_LONG = 3600.0  # seconds from which the measurement, which takes seconds, is worth it


def smaller_network_advice(preset: Preset, images: ImageFacts, seconds: float) -> str | None:
    """Returns the advice to train a small ResNet, with the hours of both networks, if it is needed.

    It is needed if a ResNet trains for more than an hour without a GPU or TPU. Both networks are
    measured with a forward pass of a few images: the time of a step is a multiple of it.

    Args:
        preset: complete settings.
        images: facts about the images.
        seconds: estimated time of the whole training.

    Example:
        ```python
        advice = smaller_network_advice(preset, images, seconds=40 * 3600)
        # "resnet18 needs about 40.0 h without a GPU. --backbone small-resnet would need about ..."
        ```
    """
    if accelerated() or seconds < _LONG or not preset.backbone.startswith("resnet"):
        return None
    shape = preset.view_shape(images)
    state = random.getstate()  # initializers draw their seeds from it
    try:
        batch = min(_BATCH, int(preset.batch_size or _BATCH))
        own = _seconds(build_backbone(preset.backbone, preset.width, shape), batch)
        smaller = _seconds(build_backbone(_SMALLER, 1.0, shape), batch)
    finally:
        random.setstate(state)
    if smaller >= own:
        return None
    return (
        f"{preset.backbone} needs about {format_duration(seconds)} without a GPU. "
        f"The backbone {_SMALLER} would need about {format_duration(seconds * smaller / own)}: its "
        f"forward pass, measured now, is {own / smaller:.1f} times as fast."
    )


def _seconds(network: keras.Model, batch: int, repeats: int = 3) -> float:
    """Returns the seconds of a forward pass in training mode, the fastest one after compiling."""
    forward = tf.function(lambda images: network(images, training=True), autograph=False)
    images = tf.zeros((batch, *network.input_shape[1:]))
    forward(images)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        tf.reduce_sum(forward(images)).numpy()  # wait for the result
        times.append(time.perf_counter() - start)
    return min(times)
