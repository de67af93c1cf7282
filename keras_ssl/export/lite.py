"""LiteRT export: a .tflite file for phones and small devices."""

import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ssl.backbones.tokens import PatchTokens
from keras_ssl.export.agreement import check_agreement
from keras_ssl.export.artefact import output_name
from keras_ssl.export.backbone import copy_to_float32, find_backbone, find_shapes, sample_images
from keras_ssl.export.int8 import has_unit_norm, quantize_int8
from keras_ssl.export.quiet import quiet_conversion
from keras_ssl.export.whole_file import whole_file

# Cosine similarity between an image's features from Keras and from LiteRT; must be exceeded.
_MIN_COSINE = {None: 0.9999, "float16": 0.9999, "int8": 0.99}
_CHECKED_IMAGES = 32


def lite(
    model: keras.Model,
    path: str | os.PathLike,
    quantize: str | None = None,
    calibration: Any = None,
    overwrite: bool = False,
    output: str | None = None,
    block: str | None = None,
) -> pathlib.Path:
    """Writes a backbone as a LiteRT file with a signature that maps `images` to `features`.

    The output of a classifier is named `scores`. Images and outputs are float32, whatever `quantize`
    is. The batch size is free. The file is moved to `path` only after LiteRT's interpreter has run
    it: for each image, the cosine similarity of its features with those of the network must exceed
    0.9999, or 0.99 for "int8".

    Args:
        model: built `keras.Model` that maps float32 images `(batch, height, width, channels)` to
            features `(batch, features)`, or a model with such a `backbone`.
        path: file to write, usually `*.tflite`. Missing parent directories are created.
        quantize: number format of the weights. `None`: float32. "float16": half the size; hardware
            without float16 computes in float32. "int8": a quarter of the size; integer arithmetic
            with ranges determined by `calibration`. If all features have length 1, they are
            normalized in float32 at the end.
        calibration: about a hundred typical inputs of the network, `(n, height, width, channels)`,
            float32, or uint8, which are scaled to [0, 1]. The check uses the first 32 of them, or
            four random images if there are none.
        overwrite: whether to replace an existing file.
        output: name of the signature's output. `None`: "scores" for a network of
            `keras_ssl.evaluate.finetune` or `keras_ssl.distill`, and "features" for others.
        block: export an encoder that ends at this block, such as "block3", with the features of
            `keras_ssl.backbones.cut`.

    Returns:
        `path`.

    Raises:
        FileExistsError: if `path` exists and may not be replaced.
        ImportError: if LiteRT's runtime is not installed.
        RuntimeError: if the features of the file differ from those of the network.
        TypeError: if `model` is not a `keras.Model`.
        ValueError: if the network cannot be exported, `quantize` is unknown, or `calibration` is
            missing or does not fit the network.

    Example:
        >>> lite(keras_ssl.backbones.Tiny(), "tiny.tflite")
        PosixPath('tiny.tflite')
    """
    if quantize not in _MIN_COSINE:
        raise ValueError(
            f"`quantize` must be None, 'float16' or 'int8'. Received: quantize={quantize!r}"
        )
    backbone = find_backbone(model, block)
    image_shape, _ = find_shapes(backbone)
    if quantize == "int8" and None in image_shape and _resizes_positions(backbone):
        raise ValueError(
            "A vision transformer for images of any size cannot be quantized to int8. Expected: images "
            "of one size, as of keras_ssl.backbones.ViT(input_shape=(224, 224, 3)). Received: "
            f"{backbone.name!r} with images of {image_shape}"
        )
    images = _checked_images(calibration, image_shape, needed=quantize == "int8")
    interpreter = _import_interpreter()
    with whole_file(path, overwrite) as draft:
        network = copy_to_float32(backbone)
        checked = images[:_CHECKED_IMAGES]
        expected = np.asarray(network(checked, training=False))
        normalize = quantize == "int8" and has_unit_norm(expected)
        output = output or output_name(backbone)
        with quiet_conversion():
            draft.write_bytes(_convert(network, image_shape, quantize, images, normalize, output))
            received = _run(interpreter(str(draft)), checked)
        name = f"{pathlib.Path(path).name} (LiteRT, {quantize or 'float32'})"
        check_agreement(expected, received, _MIN_COSINE[quantize], name)
    return pathlib.Path(path)


def _convert(
    network: keras.Model,
    image_shape: tuple,
    quantize: str | None,
    images: np.ndarray,
    normalize: bool,
    output: str,
) -> bytes:
    @tf.function(input_signature=[tf.TensorSpec((None, *image_shape), tf.float32, name="images")])
    def serving_default(images):
        features = network(images, training=False)
        # Integers have changed the length of the vectors; `quantize_int8` keeps this in float32.
        return {output: tf.math.l2_normalize(features, axis=-1) if normalize else features}

    def representative() -> Iterator[list[np.ndarray]]:
        for image in images:
            yield [image[None]]

    module = tf.Module()
    module.network_variables = [variable.value for variable in network.variables]
    with tempfile.TemporaryDirectory() as folder:
        # The converter turns the variables of a SavedModel into constants.
        tf.saved_model.save(module, folder, signatures={"serving_default": serving_default})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if quantize == "float16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        if quantize == "int8":
            converter.representative_dataset = representative
            return quantize_int8(converter)
        return converter.convert()


def _import_interpreter() -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ImportError(
            'Exporting to LiteRT needs its runtime, to check the file: pip install "keras_ssl[lite]". '
            f"{error}"
        ) from error
    return Interpreter


def _run(interpreter: Any, images: np.ndarray) -> np.ndarray:
    (outputs,) = interpreter.get_signature_runner("serving_default")(images=images).values()
    return outputs


def _resizes_positions(backbone: keras.Model) -> bool:
    """Whether a network has a layer whose int8 conversion aborts the process for free sizes."""
    return any(isinstance(layer, PatchTokens) for layer in backbone._flatten_layers())


def _checked_images(calibration: Any, image_shape: tuple, needed: bool) -> np.ndarray:
    if calibration is None and not needed:
        return sample_images(image_shape, 4)
    images = np.asarray(() if calibration is None else calibration)
    shape_fits = images.ndim == 4 and all(
        side in (None, length) for side, length in zip(image_shape, images.shape[1:], strict=True)
    )
    if not shape_fits or not len(images) or images.dtype not in ("float32", "uint8"):
        raise ValueError(
            "`calibration` must be inputs of the network, float32 or uint8, of shape "
            f"(n, {', '.join(str(side or 'any') for side in image_shape)}), and is required for "
            f"quantize='int8'. Received: shape {images.shape}, dtype {images.dtype}"
        )
    if images.dtype == np.uint8:
        images = images.astype("float32") / 255
    if not np.isfinite(images).all():
        raise ValueError("`calibration` must be finite. Received: images with NaN or infinity")
    return images
