"""ONNX export, the comparison of features, and atomic writing of files."""

import importlib

import keras
import numpy as np
import pytest

from keras_ssl import export
from keras_ssl.backbones import ResNet, Tiny
from keras_ssl.evaluate.classifier import with_classes
from keras_ssl.export.agreement import check_agreement
from keras_ssl.export.whole_file import whole_file

# The module; `export.onnx` is the function.
onnx_module = importlib.import_module("keras_ssl.export.onnx")


def random_images(batch=4, side=16, seed=0):
    return np.random.default_rng(seed).uniform(size=(batch, side, side, 3)).astype("float32")


@pytest.fixture
def onnxruntime():
    pytest.importorskip("tf2onnx")
    return pytest.importorskip("onnxruntime")


def test_onnxruntime_computes_the_same_features(onnxruntime, tmp_path):
    backbone = ResNet(18, width=1 / 16, stem="small", input_shape=(None, None, 3))
    backbone(random_images(8), training=True)
    path = export.onnx(backbone, tmp_path / "new" / "resnet.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for images in (random_images(3, 16, 1), random_images(1, 25, 2)):
        (received,) = session.run(["features"], {"images": images})
        np.testing.assert_allclose(received, backbone(images, training=False), atol=1e-5)
    assert list(path.parent.iterdir()) == [path]


def test_the_output_of_a_classifier_is_named_scores(onnxruntime, tmp_path):
    classifier = with_classes(Tiny((16, 16, 3), features=16), classes=3)
    images = random_images(3)
    path = export.onnx(classifier, tmp_path / "a.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (received,) = session.run(["scores"], {"images": images})
    np.testing.assert_allclose(received, classifier(images), atol=1e-5)
    path = export.onnx(classifier, tmp_path / "b.onnx", output="logits")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_outputs()] == ["logits"]


def test_gelu(onnxruntime, tmp_path):
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(8, 3, activation="gelu")(inputs)
    network = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    path = export.onnx(network, tmp_path / "gelu.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    images = 20 * random_images(3) - 10
    (received,) = session.run(["features"], {"images": images})
    np.testing.assert_allclose(received, network(images), rtol=1e-5, atol=1e-5)


def test_a_file_with_wrong_features_is_not_written(onnxruntime, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_module, "_MIN_COSINE", 1.1)
    with pytest.raises(RuntimeError, match=r"a.onnx \(ONNX\) differ from those of the network"):
        export.onnx(Tiny((8, 8, 3), features=4), tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_agreement_is_the_smallest_cosine_similarity():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 5, 7))
    expected = min(
        sum(x * y) / (sum(x * x) ** 0.5 * sum(y * y) ** 0.5) for x, y in zip(a, b, strict=True)
    )
    np.testing.assert_allclose(check_agreement(a, b, -1.0, "a"), expected, rtol=1e-12)
    assert check_agreement(np.zeros((2, 3)), np.zeros((2, 3)), 0.9, "a") == 1.0
    for other in (np.zeros((2, 3)), np.full((2, 3), np.nan)):
        with pytest.raises(RuntimeError, match=r"cosine similarity above 0\.9"):
            check_agreement(np.ones((2, 3)), other, 0.9, "a")
    with pytest.raises(RuntimeError, match=r"the wrong shape.*Expected: \(2, 3\)"):
        check_agreement(np.ones((2, 3)), np.ones((2, 4)), 0.9, "a")


def test_a_file_is_replaced_only_on_request(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_text("old")
    with pytest.raises(FileExistsError, match="overwrite=True"), whole_file(path, False):
        pass
    with whole_file(path, True) as draft:
        draft.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    with pytest.raises(FileExistsError, match="a directory"), whole_file(tmp_path, True):
        pass
    remote = pytest.raises(ValueError, match=r"local file. Received: path=gs://a")
    with remote, whole_file("gs://a", True):
        pass


def test_an_interrupted_write_leaves_no_file(tmp_path):
    def interrupted():
        with whole_file(tmp_path / "a", False) as draft:
            draft.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
