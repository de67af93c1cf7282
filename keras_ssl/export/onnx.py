"""ONNX: a network as one file for runtimes outside TensorFlow."""

import os
import pathlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ssl.export.agreement import check_agreement
from keras_ssl.export.backbone import checked_backbone, float32_copy, sample_images, shapes
from keras_ssl.export.whole_file import whole_file

_LEAST_COSINE = 0.9999
_IMAGES = 4


def onnx(
    model: keras.Model, path: str | os.PathLike, opset: int = 17, overwrite: bool = False
) -> pathlib.Path:
    """Writes a backbone as an ONNX file with the input `images` and the output `features`.

    Both are float32, images `(batch, height, width, channels)` as in Keras; a batch may have any
    size. The file appears at `path` only after onnxruntime has run it: the features of each of some
    random images must have a cosine above 0.9999 with those of the network.

    Args:
        model: built `keras.Model` from float32 images `(batch, height, width, channels)` to
            features `(batch, features)`, or a model with such a `backbone`.
        path: file to write, usually `*.onnx`. Missing parents are made.
        opset: version of ONNX' operators.
        overwrite: replace a file that is there.

    Returns:
        `path`.

    Raises:
        FileExistsError: if `path` is there and may not be replaced.
        ImportError: if tf2onnx or onnxruntime is not installed.
        RuntimeError: if the file does not give the network's features.
        TypeError: if `model` is not a `keras.Model`.
        ValueError: if the network cannot be exported.

    Example:
        >>> onnx(keras_ssl.backbones.Tiny(), "tiny.onnx")
        PosixPath('tiny.onnx')
    """
    backbone = checked_backbone(model)
    image_shape, _ = shapes(backbone)
    tf2onnx, onnxruntime = _libraries()
    with whole_file(path, overwrite) as draft:
        network = float32_copy(backbone)
        spec = tf.TensorSpec((None, *image_shape), tf.float32, name="images")

        @tf.function(input_signature=[spec])
        def features(images):
            return {"features": network(images, training=False)}

        tf2onnx.convert.from_function(
            features, input_signature=[spec], opset=opset, output_path=str(draft)
        )
        images = sample_images(image_shape, _IMAGES)
        session = onnxruntime.InferenceSession(str(draft), providers=["CPUExecutionProvider"])
        (received,) = session.run(["features"], {"images": images})
        expected = np.asarray(network(images, training=False))
        check_agreement(expected, received, _LEAST_COSINE, f"{pathlib.Path(path).name} (ONNX)")
    return pathlib.Path(path)


def _libraries() -> tuple[Any, Any]:
    try:
        import onnxruntime
        import tf2onnx
    except ImportError as error:
        raise ImportError(
            f'ONNX files need two packages: pip install "keras_ssl[onnx]". {error}'
        ) from error
    return tf2onnx, onnxruntime
