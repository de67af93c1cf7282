"""`simclrv2`, `finetune` and `distill` read images with one value range in all stages."""

import json
import types

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_ssl import export
from keras_ssl.cli.simclrv2 import SimCLRv2
from keras_ssl.data import open_source
from keras_ssl.data.value_range import ValueRange
from keras_ssl.export.value_range import read_value_range
from keras_ssl.runs.directory import Run
from tests.command_line import call

TWELVE_BITS = ValueRange((0.0,), (4095.0,), "uint16")
TINY = ["--backbone", "tiny", "--width", 0.25, "--epochs", 1, "--batch-size", 8]
STAGES = ["supervised-0.5", "fine-tuned-0.5", "self-distilled-0.5", "small-student-0.5"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """16-bit images with values of 12 bits, in two classes that differ in brightness."""
    folder = tmp_path_factory.mktemp("deep")
    random = np.random.default_rng(0)
    for number in range(40):
        path = folder / ("train", "val")[number >= 24] / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True, parents=True)
        pixels = random.integers(0, 1500, (8, 8)) + 2500 * (number % 2)
        Image.fromarray(pixels.astype(np.uint16)).save(path)
    return folder


def check_export(run, folder):
    """The scores of pixels, scaled by the export, are those that the run measured."""
    assert read_value_range(run.export_path) == run.value_range == TWELVE_BITS
    raw, scaled = (open_source(folder, value_range=each)[1] for each in ("full", TWELVE_BITS))
    images = np.stack([raw.read(number) for number in range(len(raw))])
    scores = tf.saved_model.load(str(run.export_path)).signatures["pixels"](
        images=tf.constant(images)
    )["scores"]
    network = export.load(run.export_path)
    expected = network(np.stack([scaled.read(number) for number in range(len(raw))]))
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    accuracy = np.mean(np.argmax(scores, axis=1) == raw.labels)
    assert accuracy == pytest.approx(run.metrics["accuracy"])


@pytest.mark.large
def test_all_stages_have_the_range(folder, tmp_path):
    words = ["--data", folder, "--value-range", 0, 4095, "--labels", 0.5, *TINY]
    words += ["--finetune-epochs", 1, "--finetune-steps", 0, "--distill-epochs", 1]
    path = tmp_path / "run"
    status, _, err = call("simclrv2", *words, "--out", path)
    assert status == 0, err
    assert Run(path / "pretrain").value_range == TWELVE_BITS
    assert Run(path).value_range == TWELVE_BITS
    for name in STAGES:
        check_export(Run(path / name), folder)
    assert call("simclrv2", "--resume", path)[0] == 0
    status, _, err = call("simclrv2", "--resume", path, "--value-range", 0, 5000)
    assert status == 1
    assert "value_range: (0.0, 4095.0) in the run, (0.0, 5000.0) now" in err

    # Another run takes the range of the pretraining, and an export is a teacher with a range.
    words = ["--data", folder, "--pretrained", path / "pretrain", "--labels", 0.5, *TINY]
    words += ["--finetune-epochs", 1, "--finetune-steps", 0, "--distill-epochs", 1]
    status, _, err = call("simclrv2", *words, "--out", tmp_path / "second")
    assert status == 0, err
    check_export(Run(tmp_path / "second" / "small-student-0.5"), folder)
    words = ["--data", folder, "--epochs", 1, "--out", tmp_path / "student"]
    status, _, err = call("distill", tmp_path / "second" / "fine-tuned-0.5" / "export", *words)
    assert status == 0, err
    check_export(Run(tmp_path / "student"), folder)


@pytest.mark.large
def test_a_fine_tuning_takes_the_range_of_its_encoder(folder, tmp_path):
    words = ["--data", folder, "--value-range", 0, 4095, "--knn-every", 0, *TINY]
    status, _, err = call("pretrain", *words, "--out", tmp_path / "run")
    assert status == 0, err
    words = ["--data", folder, "--labels", 1, "--epochs", 1, "--min-steps", 0]
    status, _, err = call("finetune", tmp_path / "run", *words, "--out", tmp_path / "classifier")
    assert status == 0, err
    run = Run(tmp_path / "classifier")
    assert run.config["data_rules"] == 3
    check_export(run, folder)


def stored_run(path, **settings):
    return Run.create(path, {"labels": [0.1], **settings})


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "full"),  # an earlier version
        ({"value_range": "auto", "measured_range": TWELVE_BITS.to_json()}, TWELVE_BITS),
        ({"value_range": "full", "measured_range": None}, "full"),
    ],
)
def test_a_run_goes_on_with_its_own_range(settings, expected, tmp_path):
    run = stored_run(tmp_path / "run", **settings)
    assert SimCLRv2(value_range=(0, 9))._pixels(run) == expected


def test_a_new_run_takes_the_range_of_the_pretraining(tmp_path):
    new = types.SimpleNamespace(exists=False)
    (tmp_path / "preprocessing.json").write_text(json.dumps({"value_range": TWELVE_BITS.to_json()}))
    assert SimCLRv2(pretrained=tmp_path)._pixels(new) == TWELVE_BITS
    assert SimCLRv2(value_range=(0.0, 9.0))._pixels(new) == (0.0, 9.0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--value-range", 5, 1], "two numbers, the lower one first. Received: --value-range 5 1"),
        (["--value-range", "auto", "--pretrained", "RUN"], "--pretrained without --value-range"),
    ],
)
def test_wrong_ranges_are_refused(words, message):
    status, _, err = call("simclrv2", "--data", "digits", *words)
    assert status == 1
    assert message in err
