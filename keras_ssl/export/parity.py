"""Checks that an export has the outputs of its backbone, for every signature and loader."""

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
    backbone: keras.Model,
    image_shape: tuple,
    preprocessing: Preprocessing,
    draft: pathlib.Path,
    output: str = "features",
) -> None:
    """Raises RuntimeError unless the export in `draft` has the outputs of the backbone.

    Args:
        backbone: the exported network.
        image_shape: `(height, width, channels)` of its images; `None` for a free side.
        preprocessing: that of the export.
        draft: directory of the export.
        output: name of the signatures' output; see `keras_ssl.export.artefact.output_name`.
    """
    random = np.random.default_rng(0)
    images = sample_images(image_shape, 2)
    shape = images.shape
    kind = preprocessing.pixel_type.as_numpy_dtype
    most = 256 if kind == np.uint8 else 2**16
    pixels = random.integers(0, most, shape).astype(kind)
    # Images of another size than the network's, as clients send them.
    size = (2, shape[1] + 9, shape[2] + 13, shape[3])
    raw = random.integers(0, most, size).astype(kind)
    blocks = block_outputs(backbone)
    # An accelerator may choose a different algorithm for the same convolution in every run. The
    # arithmetic of a CPU is reproducible, also in half precision.
    with tf.device("/CPU:0"):
        served = tf.saved_model.load(str(draft))
        call = {
            name: lambda batch, run=signature: run(tf.constant(batch))
            for name, signature in served.signatures.items()
        }
        run = to_graph(backbone)
        features = run(images)
        of_raw = run(tf.function(preprocessing)(raw))
        pairs = {
            "__call__": (features, served(images, training=False)),
            "serving_default": (features, call["serving_default"](images)[output]),
            "keras_ssl.export.load": (features, to_graph(load(draft))(images)),
            "pixels": (of_raw, call["pixels"](raw)[output]),
        }
        if "uint8" in call:
            scaled = run(tf.function(preprocessing.scale)(pixels))
            pairs["uint8"] = (scaled, call["uint8"](pixels)[output])
        if preprocessing.decodes:
            files = [tf.io.encode_png(image).numpy() for image in raw]
            pairs["encoded"] = (of_raw, call["encoded"](files)[output])
        if blocks:
            expected = to_graph(keras.Model(backbone.inputs[0], blocks))(images)
            received = call["blocks"](images)
            pairs |= {f"blocks/{name}": (expected[name], received[name]) for name in blocks}
    for name, (expected_value, value) in pairs.items():
        compare(name, np.asarray(expected_value, "float32"), np.asarray(value, "float32"))


def to_graph(network: Callable) -> Callable[[Any], Any]:
    """Returns a network in inference mode as a graph, traced once for each shape of images."""

    # A graph, because TensorFlow also optimizes the graph of the export.
    @tf.function
    def run(batch):
        return network(batch, training=False)

    def call(images):
        batch = tf.constant(images)
        # Calling `run` would make TensorFlow warn of retracing after a few exports in one process.
        return run.get_concrete_function(batch)(batch)

    return call


def compare(name: str, expected: np.ndarray, received: np.ndarray) -> None:
    """Raises RuntimeError unless received and expected values are finite and agree to 1e-5.

    If the largest absolute expected value exceeds 1, the tolerance is multiplied by it.
    """
    if not np.isfinite(expected).all():
        raise RuntimeError(
            "The backbone's outputs are not finite, so nothing was written. "
            f"Expected: finite outputs for random images. Received: {name} with "
            f"{np.count_nonzero(~np.isfinite(expected))} of {expected.size} not finite"
        )
    allowed = _TOLERANCE * max(1.0, float(np.abs(expected).max()))
    difference = float(np.abs(expected - received).max())
    if not difference <= allowed:
        raise RuntimeError(
            "The outputs of the export differ from those of the backbone, so nothing was written. "
            f"Expected: {name} within {allowed:.1e}. Received: a difference of {difference:.1e}"
        )
