"""Measures the cost of a network: parameters, operations, size on disk, images per second."""

import pathlib
import tempfile
import time
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class Cost:
    """The cost of using a network.

    Attributes:
        parameters: number of weights, including moving statistics.
        flops: floating-point operations per image; a multiply-add counts as two.
        bytes: size of the weights as a `.keras` file.
        images_per_second: in inference mode, on this machine, in batches.
    """

    parameters: int
    flops: int
    bytes: int
    images_per_second: float

    def to_dict(self) -> dict[str, Any]:
        """Returns the attributes as a JSON-serializable dictionary."""
        return asdict(self)


def cost(
    network: keras.Model, batch_size: int = 64, batches: int = 5, image_size: int | None = None
) -> Cost:
    """Measures the cost of a network.

    Args:
        network: built `keras.Model` that maps images to vectors.
        batch_size: images per batch, for the speed.
        batches: number of timed batches. The fastest counts: other programs disturb it least.
        image_size: side of the images in pixels, for a network that takes any size.

    Raises:
        ValueError: if the network takes any size and `image_size` is not given.

    Example:
        >>> cost(keras_ssl.backbones.Tiny((8, 8, 3))).parameters > 0
        True
    """
    shape: Any = [side or image_size for side in network.input_shape[1:]]
    if None in shape:
        raise ValueError(
            "`image_size` must be given for a network that takes images of any size. "
            f"Received: {network.name!r} with input shape {network.input_shape}"
        )
    forward = tf.function(lambda images: network(images, training=False), autograph=False)
    return Cost(
        network.count_params(),
        _flops(forward, shape),
        _bytes(network),
        _speed(forward, np.zeros((batch_size, *shape), np.float32), batches),
    )


def _flops(forward: Any, shape: Any) -> int:
    graph = forward.get_concrete_function(tf.TensorSpec((1, *shape), tf.float32)).graph
    profiler = tf.compat.v1.profiler
    log = tf.get_logger()
    level = log.level
    log.setLevel("ERROR")  # the only profiler, and it logs that it is deprecated
    options = profiler.ProfileOptionBuilder(profiler.ProfileOptionBuilder.float_operation())
    options = options.with_empty_output().build()
    try:
        return profiler.profile(graph, options=options).total_float_ops
    finally:
        log.setLevel(level)


def _bytes(network: keras.Model) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "network.keras")
        network.save(path, include_optimizer=False)
        return path.stat().st_size


def _speed(forward: Any, images: np.ndarray, batches: int) -> float:
    batch = tf.constant(images)
    forward(batch)  # trace
    times = []
    for _ in range(batches):
        start = time.perf_counter()
        tf.reduce_sum(forward(batch)).numpy()  # wait for the device
        times.append(time.perf_counter() - start)
    return len(images) / min(times)
