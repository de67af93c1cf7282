"""Exports that end at a block, in all formats."""

import importlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import export
from keras_ssl.backbones import Tiny, ViT, cut
from keras_ssl.evaluate.classifier import with_classes
from keras_ssl.methods import SimCLR
from tests.runs.test_evaluations import QUICK, run, sets  # noqa: F401

SHAPE = (16, 16, 3)


def random_images(batch=3, shape=SHAPE):
    return np.random.default_rng(0).uniform(size=(batch, *shape)).astype("float32")


@pytest.fixture(scope="module")
def backbone():
    keras.utils.set_random_seed(0)
    network = Tiny(SHAPE, features=16)
    network(random_images(8), training=True)  # moving statistics that differ from the default
    return network


def test_a_saved_model_has_the_features_of_the_block(backbone, tmp_path):
    path = export.saved_model(SimCLR(backbone), tmp_path / "cut", block="block2")
    expected = cut(backbone, "block2")(random_images(), training=False)
    network = export.load(path)
    np.testing.assert_allclose(network(random_images()), expected, atol=1e-6)
    assert [layer.name for layer in network.layers if "block3" in layer.name] == []
    loaded = tf.saved_model.load(path)
    received = loaded.signatures["serving_default"](images=tf.constant(random_images()))
    np.testing.assert_allclose(received["features"], expected, atol=1e-5)
    card = (path / "README.md").read_text()
    assert "`tiny`, the backbone of a `SimCLR` model, cut after `block2`" in card
    assert "8 features" in card
    whole = export.saved_model(backbone, tmp_path / "whole")
    assert "cut after" not in (whole / "README.md").read_text()


def test_a_classifier_is_cut_below_its_classes(backbone, tmp_path):
    classifier = with_classes(backbone, classes=3)
    expected = cut(backbone, "block2")(random_images(), training=False)
    path = export.saved_model(classifier, tmp_path / "cut", block="block2")
    np.testing.assert_allclose(export.load(path)(random_images()), expected, atol=1e-6)
    with pytest.raises(
        ValueError, match=r"has no classes. .* Received: block='block2' and 3 class"
    ):
        export.saved_model(classifier, tmp_path / "no", class_names=["a", "b", "c"], block="block2")


@pytest.mark.parametrize("form", ["lite", "onnx"])
def test_files_have_the_features_of_the_block(backbone, form, tmp_path):
    pytest.importorskip("ai_edge_litert.interpreter" if form == "lite" else "tf2onnx")
    path = getattr(export, form)(backbone, tmp_path / f"cut.{form}", block="block1")
    expected = cut(backbone, "block1")(random_images(), training=False)
    if form == "lite":
        interpreter = importlib.import_module("ai_edge_litert.interpreter").Interpreter(str(path))
        received = interpreter.get_signature_runner()(images=random_images())["features"]
    else:
        session = importlib.import_module("onnxruntime").InferenceSession(str(path))
        (received,) = session.run(["features"], {"images": random_images()})
    np.testing.assert_allclose(received, expected, atol=1e-5)


def test_a_block_that_is_not_there_is_refused_before_writing(backbone, tmp_path):
    for write in (export.saved_model, export.lite, export.onnx):
        with pytest.raises(
            ValueError, match=r"Expected: block1, block2, block3\. Received: block='x'"
        ):
            write(backbone, tmp_path / "none", block="x")
    assert list(tmp_path.iterdir()) == []


def test_a_vision_transformer_can_be_cut(tmp_path):
    backbone = ViT(patch=8, dim=16, depth=3, heads=2, input_shape=SHAPE)
    path = export.saved_model(backbone, tmp_path / "cut", block="block2")
    expected = cut(backbone, "block2")(random_images())
    np.testing.assert_allclose(export.load(path)(random_images()), expected, atol=1e-5)


def test_the_card_of_a_run_shows_the_results_of_the_block_only(run):  # noqa: F811
    train, test = sets(1, "first")
    run.evaluate((train, test), **QUICK)
    path = run.export(block="block1")
    assert path == run.path / "export-block1"
    assert "No metrics were recorded." in (path / "README.md").read_text()
    rows = run.evaluate((train, test), **QUICK, by_block=True)
    card = (run.export(block="block1") / "README.md").read_text()
    accuracy = rows["trained"]["by_block"]["block1"]["linear"]["accuracy"]
    assert f"| rows.trained.linear.accuracy | {accuracy:.5g} |" in card
    assert '"block": "block1"' in card
    assert "cut after `block1`" in card
    expected = cut(run.encoder(), "block1")(random_images(shape=(8, 8, 1)))
    received = export.load(path)(random_images(shape=(8, 8, 1)))
    np.testing.assert_allclose(received, expected, atol=1e-6)
