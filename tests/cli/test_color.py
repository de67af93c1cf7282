"""Methods that learn from colors, from images to an encoder."""

import json

import numpy as np
import pytest

import keras_ssl
from keras_ssl.runs.directory import Run
from tests.command_line import call

METHODS = ["colorization", "split-brain", "cmc"]


@pytest.fixture
def colored(tmp_path):
    """A file of images whose colors follow from their brightness, of two classes."""
    generator = np.random.default_rng(0)
    labels = np.arange(64) % 2
    lights = generator.random((64, 16, 16, 1)) * 0.4 + 0.5 * labels[:, None, None, None]
    colors = np.concatenate([lights, 1 - lights, 0.5 * lights], axis=-1)
    path = tmp_path / "colored.npz"
    np.savez(path, images=(255 * colors).astype(np.uint8), labels=labels)
    return path


def pretrain(method, data, path, *more):
    words = ["--backbone", "tiny", "--width", 0.25, "--knn-every", 0, "--batch-size", 16]
    return call("pretrain", "--data", data, "--method", method, "--out", path, *words, *more)


@pytest.mark.large
@pytest.mark.parametrize("method", METHODS)
def test_pretrain_resume_evaluate_and_export(method, colored, tmp_path):
    path = tmp_path / "run"
    status, _, err = pretrain(method, colored, path, "--epochs", 2)
    assert status == 0, err
    config = Run(path).config
    assert config["policy"] == "crop-flip"
    if method == "colorization":
        assert config["measured"] == pytest.approx(
            keras_ssl.data.color_prior(keras_ssl.data.npz(colored))
        )
    assert any(name.endswith("accuracy") for name in Run(path).history[-1])
    status, _, err = call("pretrain", "--resume", path, "--epochs", 3)
    assert status == 0, err
    assert [line["epoch"] for line in Run(path).history] == [1, 2, 3]
    words = ["--labels-per-class", 1, "--draws", 1]
    status, _, err = call("evaluate", path, "--data", colored, *words)
    assert status == 0, err
    assert (
        json.loads((path / "metrics.json").read_text())["rows"]["trained"]["knn"]["accuracy"] >= 0
    )
    status, _, err = call("export", path)
    assert status == 0, err
    images = np.random.default_rng(0).random((3, 16, 16, 3), np.float32)
    expected = Run(path).encoder()(images)
    np.testing.assert_allclose(keras_ssl.export.load(path / "export")(images), expected, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_gray_images_are_refused_before_training(method, tmp_path):
    status, _, err = pretrain(method, "digits", tmp_path / "run")
    assert status == 1
    assert "learns from the colors of images, with 3 channels" in err
    assert not (tmp_path / "run").exists()
