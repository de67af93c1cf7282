"""LiteRT: a network as one .tflite file, for phones and small devices."""

import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ssl.export.agreement import check_agreement
from keras_ssl.export.backbone import checked_backbone, float32_copy, sample_images, shapes
from keras_ssl.export.whole_file import whole_file

# Of the features of an image: between Keras and the file, in LiteRT's own interpreter.
_LEAST_COSINE = {None: 0.9999, "float16": 0.9999, "int8": 0.99}
_CHECKED = 32  # images


def lite(
    model: keras.Model,
    path: str | os.PathLike,
    quantize: str | None = None,
    calibration: Any = None,
    overwrite: bool = False,
) -> pathlib.Path:
    """Writes a backbone as a LiteRT file, whose signature maps `images` to `features`.

    Images and features are float32 in every file; a batch may have any size. The file appears at
    `path` only after LiteRT's interpreter has run it: the features of each image must have a cosine
    above 0.9999 with those of the network, above 0.99 for "int8".

    Args:
        model: built `keras.Model` from float32 images `(batch, height, width, channels)` to
            features `(batch, features)`, or a model with such a `backbone`.
        path: file to write, usually `*.tflite`. Missing parents are made.
        quantize: what weights are stored in. `None`: float32. "float16": half the size, computed
            in float32 where there is no hardware for less. "int8": a quarter of the size, and
            integer arithmetic, whose ranges `calibration` gives.
        calibration: `(n, height, width, channels)` images as the network takes them, float32, or
            uint8, which are scaled to [0, 1]: a hundred or so of the kind that it will see. They
            are also what the check compares; without them, it takes random ones.
        overwrite: replace a file that is there.

    Returns:
        `path`.

    Raises:
        FileExistsError: if `path` is there and may not be replaced.
        ImportError: if LiteRT's runtime is not installed.
        RuntimeError: if the file does not give the network's features.
        TypeError: if `model` is not a `keras.Model`.
        ValueError: if the network cannot be exported, `quantize` is none of the above, or
            `calibration` is missing or does not fit the network.

    Example:
        >>> lite(keras_ssl.backbones.Tiny(), "tiny.tflite")
        PosixPath('tiny.tflite')
    """
    if quantize not in _LEAST_COSINE:
        raise ValueError(
            f"`quantize` must be None, 'float16' or 'int8'. Received: quantize={quantize!r}"
        )
    backbone = checked_backbone(model)
    image_shape, _ = shapes(backbone)
    images = _checked_images(calibration, image_shape, needed=quantize == "int8")
    interpreter = _interpreter()
    with whole_file(path, overwrite) as draft:
        network = float32_copy(backbone)
        draft.write_bytes(_converted(network, image_shape, quantize, images))
        checked = images[:_CHECKED]
        received = _run(interpreter(str(draft)), checked)
        expected = np.asarray(network(checked, training=False))
        name = f"{pathlib.Path(path).name} (LiteRT, {quantize or 'float32'})"
        check_agreement(expected, received, _LEAST_COSINE[quantize], name)
    return pathlib.Path(path)


def _converted(
    network: keras.Model, image_shape: tuple, quantize: str | None, images: np.ndarray
) -> bytes:
    @tf.function(input_signature=[tf.TensorSpec((None, *image_shape), tf.float32, name="images")])
    def serving_default(images):
        return {"features": network(images, training=False)}

    def representative() -> Iterator[list[np.ndarray]]:
        for image in images:
            yield [image[None]]

    module = tf.Module()
    module.network_variables = [variable.value for variable in network.variables]
    with tempfile.TemporaryDirectory() as folder:
        # By way of a SavedModel, whose variables the converter turns into constants.
        tf.saved_model.save(module, folder, signatures={"serving_default": serving_default})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if quantize is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantize == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if quantize == "int8":
            converter.representative_dataset = representative
        return converter.convert()


def _interpreter() -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ImportError(
            'LiteRT files are checked in LiteRT\'s own runtime: pip install "keras_ssl[lite]". '
            f"{error}"
        ) from error
    return Interpreter


def _run(interpreter: Any, images: np.ndarray) -> np.ndarray:
    return interpreter.get_signature_runner("serving_default")(images=images)["features"]


def _checked_images(calibration: Any, image_shape: tuple, needed: bool) -> np.ndarray:
    if calibration is None and not needed:
        return sample_images(image_shape, 4)
    images = np.asarray(() if calibration is None else calibration)
    free_or_equal = images.ndim == 4 and all(
        side in (None, length) for side, length in zip(image_shape, images.shape[1:], strict=True)
    )
    if not free_or_equal or not len(images) or images.dtype not in ("float32", "uint8"):
        raise ValueError(
            "`calibration` must be images as the network takes them, float32 or uint8, of shape "
            f"(n, {', '.join(str(side or 'any') for side in image_shape)}); quantize='int8' needs "
            f"them. Received: shape {images.shape}, dtype {images.dtype}"
        )
    if images.dtype == np.uint8:
        images = images.astype("float32") / 255
    if not np.isfinite(images).all():
        raise ValueError("`calibration` must be finite. Received: images with NaN or infinity")
    return images
