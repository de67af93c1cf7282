"""The value range and the rules of reading of a run, wherever its network is used."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_ssl
from keras_ssl.data import open_source
from keras_ssl.export.value_range import read_value_range
from keras_ssl.runs.settings import read_pretrain_settings

CONFIGS = sorted((pathlib.Path(__file__).parent / "old_configs").glob("*.json"))
SMALL = {"backbone": "tiny", "width": 0.25, "epochs": 1, "batch_size": 8, "warmup_epochs": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """16-bit images with values of 12 bits, in two classes."""
    folder = tmp_path_factory.mktemp("deep")
    random = np.random.default_rng(0)
    for number in range(16):
        path = folder / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 4096, (8, 8)).astype(np.uint16)).save(path)
    return folder


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "auto"
    return keras_ssl.pretrain(folder, "simclr", out, value_range="auto", **SMALL)


def test_the_range_is_measured_and_recorded(run, folder):
    config = json.loads((run.path / "config.json").read_text())["settings"]
    assert config["value_range"] == "auto"
    assert config["image_size"] == 8
    assert (config["pixel_type"], config["data_rules"]) == ("uint16", 3)
    train, _ = open_source(folder, value_range="auto")
    assert tuple(config["value_low"]) == train.value_range.low == run.value_range.low
    assert 0 <= min(config["value_low"]) < 100
    assert 4000 < max(config["value_high"]) <= 4095


@pytest.mark.large
def test_a_run_resumes_with_its_range(run):
    longer = keras_ssl.pretrain(resume=run.path, epochs=2)
    assert longer.value_range == run.value_range
    assert [line["epoch"] for line in longer.history] == [1, 2]


def test_an_export_scales_pixels_and_files_as_training_did(run, folder, tmp_path):
    path = run.export(tmp_path / "export")
    assert read_value_range(path) == run.value_range
    file = folder / "a" / "0.png"
    source, _ = open_source(folder, value_range=run.value_range)
    expected = keras_ssl.evaluate.extract(run.encoder(), source).values[0]
    signatures = tf.saved_model.load(str(path)).signatures
    encoded = signatures["encoded"](images=tf.constant([file.read_bytes()]))["features"][0]
    np.testing.assert_allclose(encoded, expected, atol=1e-4)
    raw, _ = open_source(folder)
    pixels = signatures["pixels"](images=raw.read(0)[None])["features"][0]
    np.testing.assert_allclose(pixels, expected, atol=1e-4)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_runs_of_earlier_versions_read_images_as_before(path):
    config = json.loads(path.read_text())["settings"]
    if "image_channels" not in config or "method" not in config:
        pytest.skip("not a pretraining run")
    settings, images = read_pretrain_settings(config, path)
    assert settings.value_range == "full"
    assert (images.value_low, images.data_rules) == (None, 1)


@pytest.mark.parametrize("wrong", [(5, 1), (0, float("nan"))])
def test_wrong_ranges_are_refused_before_the_images_are_opened(wrong, tmp_path):
    with pytest.raises(ValueError, match="two numbers, the lower one first"):
        keras_ssl.pretrain(tmp_path / "absent", value_range=wrong)
