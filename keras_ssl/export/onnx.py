"""ONNX export: a file for runtimes other than TensorFlow."""

import os
import pathlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ssl.export.agreement import check_agreement
from keras_ssl.export.artefact import output_name
from keras_ssl.export.backbone import copy_to_float32, find_backbone, find_shapes, sample_images
from keras_ssl.export.quiet import quiet_conversion
from keras_ssl.export.whole_file import whole_file

_MIN_COSINE = 0.9999  # as in lite.py
_IMAGES = 4


def onnx(
    model: keras.Model,
    path: str | os.PathLike,
    opset: int = 17,
    overwrite: bool = False,
    output: str | None = None,
    block: str | None = None,
) -> pathlib.Path:
    """Writes a backbone as an ONNX file with the input `images` and the output `features`.

    The output of a classifier is named `scores`. Input and output are float32; images are
    `(batch, height, width, channels)`, as in Keras. The batch size is free. The file is moved to
    `path` only after onnxruntime has run it: for each of four random images, the cosine similarity of
    its features with those of the network must exceed 0.9999.

    Args:
        model: built `keras.Model` that maps float32 images `(batch, height, width, channels)` to
            features `(batch, features)`, or a model with such a `backbone`.
        path: file to write, usually `*.onnx`. Missing parent directories are created.
        opset: version of the ONNX operators.
        overwrite: whether to replace an existing file.
        output: name of the output. `None`: "scores" for a network of `keras_ssl.evaluate.finetune` or
            `keras_ssl.distill`, and "features" for others.
        block: export an encoder that ends at this block, such as "block3", with the features of
            `keras_ssl.backbones.cut`.

    Returns:
        `path`.

    Raises:
        FileExistsError: if `path` exists and may not be replaced.
        ImportError: if tf2onnx or onnxruntime is not installed.
        RuntimeError: if the features of the file differ from those of the network.
        TypeError: if `model` is not a `keras.Model`.
        ValueError: if the network cannot be exported.

    Example:
        >>> onnx(keras_ssl.backbones.Tiny(), "tiny.onnx")
        PosixPath('tiny.onnx')
    """
    backbone = find_backbone(model, block)
    image_shape, _ = find_shapes(backbone)
    tf2onnx, onnxruntime = _import_libraries()
    output = output or output_name(backbone)
    with whole_file(path, overwrite) as draft:
        network = copy_to_float32(backbone)
        spec = tf.TensorSpec((None, *image_shape), tf.float32, name="images")

        @tf.function(input_signature=[spec])
        def compute(images):
            return {output: network(images, training=False)}

        with quiet_conversion():
            tf2onnx.convert.from_function(
                compute,
                input_signature=[spec],
                opset=opset,
                output_path=str(draft),
                custom_op_handlers={"Erfc": (_convert_erfc, [])},
            )
        images = sample_images(image_shape, _IMAGES)
        session = onnxruntime.InferenceSession(str(draft), providers=["CPUExecutionProvider"])
        (received,) = session.run([output], {"images": images})
        expected = np.asarray(network(images, training=False))
        check_agreement(expected, received, _MIN_COSINE, f"{pathlib.Path(path).name} (ONNX)")
    return pathlib.Path(path)


def _convert_erfc(graph: Any, node: Any, name: str, args: Any) -> None:
    """Replaces TensorFlow's Erfc, a part of GELU that ONNX lacks, by 1 - Erf."""
    output, dtype = node.output[0], graph.get_dtype(node.output[0])
    shape, inputs = graph.get_shape(output), list(node.input)
    graph.remove_node(node.name)
    one = graph.make_const(f"{name}_one", np.ones((), np.float32)).output[0]
    erf = graph.make_node("Erf", inputs, shapes=[shape], dtypes=[dtype]).output[0]
    graph.make_node("Sub", [one, erf], outputs=[output], shapes=[shape], dtypes=[dtype])


def _import_libraries() -> tuple[Any, Any]:
    try:
        import onnxruntime
        import tf2onnx
    except ImportError as error:
        raise ImportError(
            f'Exporting to ONNX needs tf2onnx and onnxruntime: pip install "keras_ssl[onnx]". {error}'
        ) from error
    return tf2onnx, onnxruntime
