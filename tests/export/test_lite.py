"""LiteRT export: files that LiteRT runs, quantization and calibration."""

import importlib
import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import export, methods
from keras_ssl.backbones import Tiny
from keras_ssl.evaluate.classifier import with_classes
from keras_ssl.export.int8 import has_unit_norm

# The module; `export.lite` is the function.
lite_module = importlib.import_module("keras_ssl.export.lite")


def random_images(batch=40, side=16, seed=0):
    return np.random.default_rng(seed).uniform(size=(batch, side, side, 3)).astype("float32")


@pytest.fixture(scope="module")
def backbone():
    backbone = Tiny((16, 16, 3), features=16)
    for seed in range(3):
        backbone(random_images(8, seed=seed), training=True)
    return backbone


@pytest.fixture
def runtime():
    return pytest.importorskip("ai_edge_litert.interpreter").Interpreter


def features_of(runtime, path, images):
    return runtime(str(path)).get_signature_runner("serving_default")(images=images)["features"]


def cosines(a, b):
    return np.sum(a * b, 1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize(
    ("quantize", "least"), [(None, 0.999999), ("float16", 0.9999), ("int8", 0.99)]
)
def test_litert_computes_the_same_features(quantize, least, backbone, runtime, tmp_path):
    path = export.lite(backbone, tmp_path / "a" / "tiny.tflite", quantize, random_images())
    new = random_images(7, seed=9)
    expected = backbone(new, training=False).numpy()
    received = features_of(runtime, path, new)
    assert received.dtype == np.float32
    assert cosines(expected, received).min() > least
    assert list(path.parent.iterdir()) == [path]


def test_the_output_of_a_classifier_is_named_scores(runtime, tmp_path):
    classifier = with_classes(Tiny((16, 16, 3), features=16), classes=3)
    images = random_images(7, seed=9)
    path = export.lite(classifier, tmp_path / "a.tflite")
    received = runtime(str(path)).get_signature_runner("serving_default")(images=images)
    assert list(received) == ["scores"]
    np.testing.assert_allclose(received["scores"], classifier(images), atol=1e-4)
    path = export.lite(classifier, tmp_path / "b.tflite", output="logits")
    assert runtime(str(path)).get_signature_list()["serving_default"]["outputs"] == ["logits"]


def test_quantized_files_are_smaller(runtime, tmp_path):
    backbone = Tiny((16, 16, 3), features=128)
    sizes = [
        export.lite(backbone, tmp_path / f"{kind}.tflite", kind, random_images(8)).stat().st_size
        for kind in (None, "float16", "int8")
    ]
    assert sizes[0] > 1.7 * sizes[1] > 1.7 * 1.5 * sizes[2]


def test_a_half_precision_method_with_a_free_size_is_exported_in_float32(runtime, tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    backbone = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.BatchNormalization(synchronized=True),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    keras.config.set_dtype_policy("float32")
    path = export.lite(methods.SimCLR(backbone), tmp_path / "free.tflite")
    images = random_images(2, side=21)
    expected = keras.ops.cast(backbone(images), "float32").numpy()
    np.testing.assert_allclose(features_of(runtime, path, images), expected, atol=0.02)


def test_uint8_calibration_is_scaled(backbone, runtime, tmp_path, monkeypatch):
    seen = []
    convert = lite_module._convert
    monkeypatch.setattr(
        lite_module, "_convert", lambda *args: seen.append(args[3]) or convert(*args)
    )
    pixels = (random_images(4) * 255).astype(np.uint8)
    export.lite(backbone, tmp_path / "a.tflite", "int8", pixels)
    np.testing.assert_allclose(seen[0], pixels / 255, atol=1e-6)


def test_a_file_with_wrong_features_is_not_written(backbone, runtime, tmp_path, monkeypatch):
    path = tmp_path / "a.tflite"
    path.write_text("earlier")
    monkeypatch.setattr(lite_module, "_run", lambda _, images: np.eye(len(images), 16))
    with pytest.raises(RuntimeError, match=r"a.tflite \(LiteRT, float32\).*above 0.9999 for each"):
        export.lite(backbone, path, overwrite=True)
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"quantize": "int4"}, "must be None, 'float16' or 'int8'. Received: quantize='int4'"),
        ({"quantize": "int8"}, r"required for quantize='int8'. Received: shape \(0,\)"),
        ({"calibration": random_images(2, 8)}, r"\(n, 16, 16, 3\).*Received: shape \(2, 8, 8, 3\)"),
        ({"calibration": random_images(2).astype("float64")}, "dtype float64"),
        ({"calibration": random_images(2) * np.nan}, "must be finite"),
    ],
)
def test_invalid_arguments_are_refused_before_writing(given, message, backbone, tmp_path):
    with pytest.raises(ValueError, match=message):
        export.lite(backbone, tmp_path / "a.tflite", **given)
    assert list(tmp_path.iterdir()) == []


def test_missing_packages_are_named(backbone, tmp_path, monkeypatch):
    for name in ("ai_edge_litert.interpreter", "tf2onnx"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(ImportError, match=r"keras_ssl\[lite\]"):
        export.lite(backbone, tmp_path / "a.tflite")
    with pytest.raises(ImportError, match=r"keras_ssl\[onnx\]"):
        export.onnx(backbone, tmp_path / "a.onnx")
    assert os.listdir(tmp_path) == []


@keras.saving.register_keras_serializable(package="keras_ssl_tests")
class Normalize(keras.layers.Layer):
    """Normalizes vectors with one of TensorFlow's functions, which LiteRT has an operator for."""

    def call(self, inputs):
        return tf.math.l2_normalize(inputs, axis=-1)


def network_of(*last):
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((8, 8, 3)),
        keras.layers.Conv2D(16, 3, 2, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(2048),
    ]
    return keras.Sequential([*layers, *last])


@pytest.mark.parametrize("layer", [Normalize, keras.layers.UnitNormalization])
def test_normalized_outputs_keep_angle_and_length_in_int8(layer, runtime, tmp_path):
    network = network_of(layer())
    path = export.lite(network, tmp_path / "a.tflite", "int8", random_images(40, 8))
    new = random_images(16, 8, seed=9)
    expected = network(new, training=False).numpy()
    received = features_of(runtime, path, new)
    assert cosines(expected, received).min() > 0.9997
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(received, axis=1), 1, atol=1e-5)


def test_unit_norms_are_detected():
    unit = np.eye(3, 8, dtype="float32")
    assert has_unit_norm(unit)
    assert not has_unit_norm(unit * np.float32(1.01))
    assert not has_unit_norm(unit * np.array([[1], [1], [0]], "float32"))
