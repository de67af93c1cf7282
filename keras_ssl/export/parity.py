"""The check before an artefact comes to its place: every way in gives the backbone's outputs."""

import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ssl.export.artefact import block_outputs
from keras_ssl.export.backbone import sample_images
from keras_ssl.export.load import load
from keras_ssl.export.preprocessing import Preprocessing

_TOLERANCE = 1e-5


def check_parity(
    backbone: keras.Model, image_shape: tuple, preprocessing: Preprocessing, draft: pathlib.Path
) -> None:
    """Raises RuntimeError unless the artefact in `draft` gives the outputs of the backbone."""
    random = np.random.default_rng(0)
    images = sample_images(image_shape, 2)
    shape = images.shape
    pixels = random.integers(0, 256, shape, np.uint8)
    # Another size than the network's own: what a client has.
    raw = random.integers(0, 256, (2, shape[1] + 9, shape[2] + 13, shape[3]), np.uint8)
    blocks = block_outputs(backbone)
    # Accelerators may choose another algorithm for the same convolution at every run; a CPU's
    # arithmetic repeats itself, in half precision too.
    with tf.device("/CPU:0"):
        served = tf.saved_model.load(str(draft))
        call = {
            name: lambda batch, run=signature: run(tf.constant(batch))
            for name, signature in served.signatures.items()
        }
        run = in_graph(backbone)
        features = run(images)
        of_raw = run(tf.function(preprocessing)(raw))
        pairs = {
            "__call__": (features, served(images, training=False)),
            "serving_default": (features, call["serving_default"](images)["features"]),
            "keras_ssl.export.load": (features, in_graph(load(draft))(images)),
            "uint8": (
                run(tf.function(preprocessing.scaled)(pixels)),
                call["uint8"](pixels)["features"],
            ),
            "pixels": (of_raw, call["pixels"](raw)["features"]),
        }
        if preprocessing.decodes:
            files = [tf.io.encode_png(image).numpy() for image in raw]
            pairs["encoded"] = (of_raw, call["encoded"](files)["features"])
        if blocks:
            expected = in_graph(keras.Model(backbone.inputs[0], blocks))(images)
            received = call["blocks"](images)
            pairs |= {f"blocks/{name}": (expected[name], received[name]) for name in blocks}
    for name, (expected_value, value) in pairs.items():
        compare(name, np.asarray(expected_value, "float32"), np.asarray(value, "float32"))


def in_graph(network: Callable) -> Callable[[Any], Any]:
    """Returns a network in inference mode, traced once for each shape of images."""

    # As a graph, because TensorFlow optimises the artefact's graph too.
    @tf.function
    def run(batch):
        return network(batch, training=False)

    return lambda images: run(tf.constant(images))


def compare(name: str, expected: np.ndarray, received: np.ndarray) -> None:
    """Raises RuntimeError unless both are equal to 1e-5, by the scale of the expected values."""
    if not np.isfinite(expected).all():
        raise RuntimeError(
            "The backbone's outputs are not finite, so they cannot be checked and nothing was "
            f"written. Expected: finite numbers from random images. Received: {name} with "
            f"{np.count_nonzero(~np.isfinite(expected))} of {expected.size} not finite"
        )
    allowed = _TOLERANCE * max(1.0, float(np.abs(expected).max()))
    difference = float(np.abs(expected - received).max())
    if not difference <= allowed:
        raise RuntimeError(
            "The written artefact does not give the backbone's outputs, so nothing was written. "
            f"Expected: {name} equal to {allowed:.1e}. Received: a difference of {difference:.1e}"
        )
