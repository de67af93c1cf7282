"""`keras_ssl.pretrain` and `keras_ssl.Run`, as called from Python."""

import json
import os
import pathlib
import signal

import keras
import numpy as np
import pytest

import keras_ssl
from keras_ssl import data, methods
from keras_ssl.backbones import Tiny
from keras_ssl.callbacks import Interrupted
from keras_ssl.presets import MoCo, SimCLR
from keras_ssl.runs.pretrain import _build_monitors
from keras_ssl.runs.settings import PretrainSettings

SMALL = {"epochs": 2, "batch_size": 16, "backbone": "tiny", "width": 0.25, "embedding": 8}
SMALL |= {"policy": "centred", "knn_every": 0}


def images(count=48, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 1), np.uint8)
    return data.arrays(pixels, np.arange(count) % 3, name="noise")


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "few.npz"
    pixels = np.random.default_rng(0).integers(0, 256, (48, 8, 8, 1), np.uint8)
    np.savez(path, images=pixels, labels=np.arange(48) % 3)
    return path


@pytest.fixture(scope="module")
def run(npz, tmp_path_factory):
    return keras_ssl.pretrain(npz, out=tmp_path_factory.mktemp("runs") / "run", **SMALL)


def test_three_lines_train_evaluate_and_export(run, npz, capsys):
    assert isinstance(run, keras_ssl.Run)
    assert [line["epoch"] for line in run.history] == [1, 2]
    rows = run.evaluate(npz, labels_per_class=(1,), draws=2, baselines=True)
    assert list(rows) == ["raw pixels", "untrained", "trained"]
    assert run.metrics["rows"].keys() == rows.keys()
    assert "trained" in capsys.readouterr().out
    path = run.export()
    assert path == run.export_path
    pixels = np.random.default_rng(1).random((3, 8, 8, 1), np.float32)
    np.testing.assert_allclose(
        keras_ssl.export.load(path)(pixels), run.encoder()(pixels), atol=1e-5
    )


def test_a_run_is_opened_by_its_path(run):
    again = keras_ssl.Run(str(run.path))
    for one, other in zip(again.encoder().weights, run.method().backbone.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    untrained = again.untrained_encoder().get_weights()
    assert not np.array_equal(untrained[0], again.encoder().get_weights()[0])


def test_a_run_is_evaluated_on_sources(run):
    row = run.evaluate((images(), images(12, seed=1)), labels_per_class=())["trained"]
    assert run.metrics["data"] == images().name
    assert run.metrics["rows"]["trained"]["linear"]["accuracy"] == row["linear"]["accuracy"]
    assert row["few_labels"] == []
    with pytest.raises(ValueError, match="needs labels"):
        run.evaluate(data.arrays(np.zeros((8, 8, 8, 1), np.uint8)))


def test_other_runs_have_the_encoder_that_they_exported(run, tmp_path):
    other = keras_ssl.Run.create(tmp_path / "other", {"labels": 0.1})
    with pytest.raises(ValueError, match="must be one of `keras-ssl pretrain`"):
        other.encoder()
    assert run.export(other.export_path) == other.export_path
    pixels = np.random.default_rng(1).random((3, 8, 8, 1), np.float32)
    np.testing.assert_allclose(other.encoder()(pixels), run.encoder()(pixels), atol=1e-5)
    recipe = json.loads((other.export_path / "recipe.json").read_text())
    assert recipe == run.config


def test_it_prints_the_images_and_the_run(npz, tmp_path, capsys):
    options = {**SMALL, "epochs": 1, "precision": "auto"}
    run = keras_ssl.pretrain(npz, out=tmp_path / "run", **options)
    assert run.config["precision"] == "float32"  # tests run on CPUs
    printed = capsys.readouterr().out
    assert "48 images" in printed
    assert f"Run: {tmp_path / 'run'}" in printed
    assert "epoch 1/1: loss " in printed
    assert "Done: epoch 1, loss " in printed
    keras_ssl.pretrain(npz, resume=run.path, precision="auto")  # no other setting


@pytest.mark.parametrize(
    ("given", "method"),
    [((images(), images(12, seed=1)), "MoCo"), (images(), MoCo(groups=1, queue_size=20))],
    ids=["two sources and a name", "a source and a preset"],
)
def test_sources_and_methods_in_any_form(given, method, tmp_path):
    options = {**SMALL, "epochs": 1, "knn_every": 1}
    run = keras_ssl.pretrain(given, method, tmp_path / "run", **options)
    assert run.config["method"] == "moco"
    assert run.config["queue_size"] == (24 if method == "MoCo" else 20)
    assert "data" in run.config
    assert run.config["data"] is None
    if isinstance(given, tuple):
        assert 0 <= run.history[0]["knn"] <= 1
    else:
        assert "knn" not in run.history[0]  # there are no test images
    assert run.history[0]["momentum"] == pytest.approx(0.999)
    with pytest.raises(ValueError, match="Expected: the same source"):
        keras_ssl.pretrain(resume=run.path)
    assert keras_ssl.pretrain(given, resume=run.path).history == run.history
    with pytest.raises(ValueError, match=r"Expected: 48 images .* Received: 32 images"):
        keras_ssl.pretrain(images(32), resume=run.path)
    with pytest.raises(ValueError, match=r"Expected: 48 images \(.*Received: 48 images \("):
        keras_ssl.pretrain(images(seed=9), resume=run.path)


def test_the_monitor_has_the_neighbors_of_the_evaluation():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)
    labels = np.repeat([0, 1, 2, -1], [20, 6, 4, 10])
    source = data.arrays(pixels, labels)
    given = PretrainSettings(data=None, knn_every=2)
    model = methods.SimCLR(Tiny((8, 8, 1), features=8))
    (monitor,) = _build_monitors(given, source, source, model)
    assert monitor.k == 6  # the median class, as in report.measure; not 200, which are all images
    assert monitor.every == 2


@pytest.mark.large
def test_the_default_directory_names_method_and_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {**SMALL, "epochs": 1, "batch_size": 700, "hidden_units": 8}
    run = keras_ssl.pretrain("digits", "byol", **options)
    assert run.path.parent == pathlib.Path("runs")
    assert run.path.name.startswith("byol-digits-")
    assert run.config["data"] == "digits"


def test_options_of_other_methods_are_refused(npz):
    message = "`queue_size` is not an option of byol. It is an option of simclr-memory, moco."
    with pytest.raises(ValueError, match=message):
        keras_ssl.pretrain(npz, "byol", queue_size=8)
    with pytest.raises(ValueError, match=r"`epoch` is not an option of simclr\. No method"):
        keras_ssl.pretrain(npz, epoch=8)
    with pytest.raises(ValueError, match="Nearest: simclr"):
        keras_ssl.pretrain(npz, "simclear")


def test_a_negative_interval_is_refused(npz, tmp_path):
    with pytest.raises(
        ValueError, match=r"`knn_every` must be at least 0\. Received: knn_every=-1"
    ):
        keras_ssl.pretrain(npz, out=tmp_path / "run", **{**SMALL, "knn_every": -1})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": "2"}, "`epochs` must be an integer"),
        ({"knn_every": 1.5}, "`knn_every` must be an integer. Received: knn_every=1.5"),
        ({"verify": "no"}, "`verify` must be True or False"),
        ({"data_dir": 3}, "`data_dir` must be a path or None"),
    ],
)
def test_options_of_a_wrong_type_are_refused(npz, tmp_path, options, message):
    with pytest.raises(TypeError, match=message):
        keras_ssl.pretrain(npz, out=tmp_path / "run", **{**SMALL, **options})
    assert not (tmp_path / "run").exists()


def test_arrays_are_not_taken_for_sources(run):
    pixels = np.zeros((48, 8, 8, 1), np.uint8)
    with pytest.raises(TypeError, match=r"keras_ssl\.data\.arrays\(images, labels\)"):
        keras_ssl.pretrain(pixels)
    with pytest.raises(TypeError, match="a tuple of 2: ndarray, ndarray"):
        run.evaluate((pixels, np.arange(48)))
    with pytest.raises(TypeError, match="`labels_per_class` must be a sequence of integers"):
        run.evaluate(images(), labels_per_class=3)


def test_nothing_is_overwritten(run, npz):
    before = run.config, run.history
    with pytest.raises(FileExistsError, match="A run needs a new directory"):
        keras_ssl.pretrain(npz, out=run.path, **SMALL)
    assert (run.config, run.history) == before


def test_images_are_needed():
    with pytest.raises(ValueError, match="`pretrain` needs images"):
        keras_ssl.pretrain()


def test_a_run_does_not_resume_with_other_settings(run, npz):
    with pytest.raises(ValueError, match="embedding: 8 in the run, 128 now"):  # the default
        keras_ssl.pretrain(npz, resume=run.path, embedding=128)
    with pytest.raises(ValueError, match=r"not shortened\. Expected: `epochs` of at least 2"):
        keras_ssl.pretrain(npz, resume=run.path, epochs=1)
    with pytest.raises(ValueError, match="method: 'simclr' in the run, 'moco' now"):
        keras_ssl.pretrain(npz, "moco", resume=run.path)


def test_the_dtype_policy_is_restored(npz, tmp_path):
    options = {**SMALL, "epochs": 1, "precision": "mixed_bfloat16"}
    run = keras_ssl.pretrain(npz, out=tmp_path / "run", **options)
    assert keras.config.dtype_policy().name == "float32"
    assert run.encoder().dtype_policy.name == "float32"
    with pytest.raises(ValueError, match="Unknown policy of views"):  # after the policy was set
        keras_ssl.pretrain(npz, out=tmp_path / "other", **{**options, "policy": "none"})
    assert keras.config.dtype_policy().name == "float32"
    assert not (tmp_path / "other").exists()


def test_a_probe_needs_two_classes(tmp_path):
    pixels = np.zeros((20, 8, 8, 1), np.uint8)
    with pytest.raises(ValueError, match="`probe` needs labels"):
        keras_ssl.pretrain(data.arrays(pixels), out=tmp_path / "run", probe=True, **SMALL)
    one = data.arrays(pixels, np.zeros(20, int))
    with pytest.raises(ValueError, match="`probe` needs at least two classes"):
        keras_ssl.pretrain(one, out=tmp_path / "run", probe=True, **SMALL)
    assert not (tmp_path / "run").exists()


class StopAt(keras.callbacks.Callback):
    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.large  # tests/cli/test_pretrain.py has the same through the command line
def test_an_interrupted_run_resumes_exactly(run, npz, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("keras_ssl.runs.pretrain._build_monitors", lambda *_: [StopAt(4)])
    with pytest.raises(Interrupted):
        keras_ssl.pretrain(npz, out=tmp_path / "run", **SMALL)
    monkeypatch.undo()
    assert f"keras-ssl pretrain --resume {tmp_path / 'run'}" in capsys.readouterr().out
    resumed = keras_ssl.pretrain(resume=tmp_path / "run")
    expected = run.method().get_weights()
    for one, other in zip(resumed.method().get_weights(), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_run_without_checkpoint_has_no_encoder(run, tmp_path):
    new = keras_ssl.Run.create(tmp_path / "new", run.config)
    with pytest.raises(FileNotFoundError, match="must have a checkpoint"):
        new.encoder()


def test_a_preset_says_what_is_wrong_with_the_images_before_a_new_run(
    npz, tmp_path, capsys, monkeypatch
):
    def check_images(preset, source):
        yield f"{len(source)} images, {preset.batch_size} in a batch"
        if preset.epochs == 1:
            raise ValueError("no colors")

    monkeypatch.setattr(SimCLR, "check_images", check_images)
    with pytest.raises(ValueError, match="no colors"):
        keras_ssl.pretrain(npz, out=tmp_path / "refused", **{**SMALL, "epochs": 1})
    assert not (tmp_path / "refused").exists()
    assert capsys.readouterr().out.strip() == "48 images, 16 in a batch"
    run = keras_ssl.pretrain(npz, out=tmp_path / "run", **SMALL)
    assert capsys.readouterr().out.startswith("48 images, 16 in a batch\n")
    keras_ssl.pretrain(resume=run.path)
    assert "in a batch" not in capsys.readouterr().out
