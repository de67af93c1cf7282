"""What a network costs: parameters, operations, bytes on disk, and images per second."""

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
    """What a network costs to use.

    Attributes:
        parameters: number of weights, moving statistics included.
        flops: floating-point operations for one image, a multiplication and an addition being two.
        bytes: size of the weights as a `.keras` file.
        images_per_second: in inference mode, on this machine, in batches.
    """

    parameters: int
    flops: int
    bytes: int
    images_per_second: float

    def to_dict(self) -> dict[str, Any]:
        """Returns the attributes as a dictionary that JSON can hold."""
        return asdict(self)


def cost(
    network: keras.Model, batch_size: int = 64, batches: int = 5, image_size: int | None = None
) -> Cost:
    """Measures what a network costs.

    Args:
        network: built `keras.Model` that maps images to vectors.
        batch_size: images per batch, for the speed.
        batches: batches that are timed; the fastest counts, which other programs disturb least.
        image_size: side of the images, where the network leaves it open.

    Raises:
        ValueError: if the network leaves the size open and `image_size` is not given.

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
    log.setLevel("ERROR")  # there is no other profiler, and this one says that it is old
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
    forward(batch)  # traced here
    times = []
    for _ in range(batches):
        start = time.perf_counter()
        tf.reduce_sum(forward(batch)).numpy()  # waits for the device
        times.append(time.perf_counter() - start)
    return len(images) / min(times)
