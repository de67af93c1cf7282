"""`keras-ssl pretrain --resume`: interrupted, finished and older runs, and other settings."""

import json
import os
import re
import shutil
import signal

import numpy as np
import pytest

from keras_ssl.callbacks.checkpoint_files import checkpoints
from keras_ssl.runs.directory import Run
from tests.command_line import TINY, StopAt, call, pretrain_digits


def checkpoint_values(path):
    file = np.load(checkpoints(Run(path).checkpoints)[-1][1] / "variables.npz")
    # Two models of one process have layers of different names.
    return {re.sub(r"_\d+", "", name): file[name] for name in file}


@pytest.mark.parametrize("method", ["simclr", pytest.param("moco", marks=pytest.mark.large)])
def test_resume_after_an_interruption_is_exact(method, tmp_path, monkeypatch):
    words = ["--method", method]
    if method == "moco":  # whose settings are all other than the defaults
        words += ["--momentum", 0.5, "--final-momentum", 0.9, "--queue-size", 600, "--groups", 4]
        words += ["--chunks", 2]
    assert pretrain_digits("--out", tmp_path / "whole", *words)[0] == 0

    monkeypatch.setattr("keras_ssl.runs.pretrain._build_monitors", lambda *_: [StopAt(3)])
    status, out, _ = pretrain_digits("--out", tmp_path / "stopped", *words)
    monkeypatch.undo()
    assert status == 128 + signal.SIGINT
    assert "Stopped after step 3; everything is saved." in out
    line = f"keras-ssl pretrain --resume {tmp_path / 'stopped'}\n"
    assert line in out

    status, out, err = call(*line.split()[1:])
    assert status == 0, err
    whole, resumed = (checkpoint_values(tmp_path / name) for name in ("whole", "stopped"))
    assert whole.keys() == resumed.keys()
    assert any("optimizer" in name for name in whole)
    assert any("queue" in name for name in whole) == (method == "moco")
    for name, value in whole.items():
        np.testing.assert_array_equal(value, resumed[name], err_msg=name)

    # A finished run is not trained further.
    status, out, err = call("pretrain", "--resume", tmp_path / "stopped")
    assert status == 0, err
    assert "Done: epoch 3" in out
    assert [line["epoch"] for line in Run(tmp_path / "stopped").history] == [1, 2, 3]


def test_resume_with_other_settings_lists_the_differences(run):
    path, _ = run
    words = ["--resume", path, "--width", 2, "--temperature", "0.25", "--batch-size", 8]
    status, _, err = call("pretrain", *words)
    assert status == 1
    assert "width: 0.25 in the run, 2.0 now; temperature: 0.5 in the run, 0.25 now" in err
    assert "batch_size" not in err
    status, _, err = call("pretrain", "--resume", path, "--embedding", 128)  # the default
    assert status == 1
    assert "embedding: 8 in the run, 128 now" in err


def test_a_run_is_lengthened(tmp_path):
    assert pretrain_digits("--out", tmp_path / "whole", "--epochs", 2)[0] == 0
    status, out, err = call("pretrain", "--resume", tmp_path / "whole", "--epochs", 4)
    assert status == 0, err
    # Half a cosine of 4 epochs of 2 steps, after 4 of 8 steps: half of the reference's rate.
    rate = 0.075 * 500**0.5 / 2
    assert "Lengthened from 2 to 4 epochs. From step 4 on, the learning rate and all" in out
    assert f"the next learning rate is {rate:.4g}." in out
    assert [line["epoch"] for line in Run(tmp_path / "whole").history] == [1, 2, 3, 4]
    assert Run(tmp_path / "whole").config["epochs"] == 4
    assert Run(tmp_path / "whole").config["lengthened"] == [{"epochs": 2, "until_step": 4}]
    assert Run(tmp_path / "whole").progress() == (8, 8)
    status, _, err = call("pretrain", "--resume", tmp_path / "whole", "--epochs", 3)
    assert status == 1
    assert "can be lengthened, but not shortened. Expected: `epochs` of at least 4" in err


@pytest.mark.large
def test_a_lengthened_run_resumes_exactly(tmp_path, monkeypatch):
    assert pretrain_digits("--out", tmp_path / "whole", "--epochs", 2)[0] == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "stopped")
    assert call("pretrain", "--resume", tmp_path / "whole", "--epochs", 4)[0] == 0
    monkeypatch.setattr("keras_ssl.runs.pretrain._build_monitors", lambda *_: [StopAt(1)])
    words = ["--resume", tmp_path / "stopped", "--epochs", 4]
    assert call("pretrain", *words)[0] == 128 + signal.SIGINT
    monkeypatch.undo()
    status, out, err = call("pretrain", *words)  # the same words again are no further change
    assert status == 0, err
    assert "Lengthened" not in out
    whole, resumed = (checkpoint_values(tmp_path / name) for name in ("whole", "stopped"))
    for name, value in whole.items():
        np.testing.assert_array_equal(value, resumed[name], err_msg=name)


def test_images_may_move_and_are_compared_by_content(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    np.savez(tmp_path / "here" / "few.npz", images=images)
    np.savez(tmp_path / "other.npz", images=255 - images)
    run, words = tmp_path / "run", ["--epochs", 1, "--batch-size", 8, *TINY]
    monkeypatch.chdir(tmp_path / "here")
    status, _, err = call("pretrain", "--data", "few.npz", "--out", run, *words)
    assert status == 0, err
    assert Run(run).config["data"] == str(tmp_path / "here" / "few.npz")
    monkeypatch.chdir(tmp_path / "there")
    assert call("pretrain", "--resume", run)[0] == 0

    moved = (tmp_path / "here" / "few.npz").rename(tmp_path / "there" / "few.npz")
    status, _, err = call("pretrain", "--resume", run)
    assert status == 1
    assert "not where they were. Expected: `data` (--data DATA) with their new place." in err
    status, _, err = call("pretrain", "--resume", run, "--data", tmp_path / "other.npz")
    assert status == 1
    assert re.search(r"Expected: 40 images \(.{8}\)\. Received: 40 images \(.{8}\) in", err)
    assert Run(run).config["data"] != str(moved)
    status, out, err = call("pretrain", "--resume", run, "--data", "few.npz", "--epochs", 2)
    assert status == 0, err
    assert Run(run).config["data"] == str(moved)
    assert "Done: epoch 2" in out


def test_a_stop_before_the_first_step_says_that_nothing_is_saved(tmp_path, monkeypatch):
    class StopAtOnce(StopAt):
        def on_epoch_begin(self, epoch, logs=None):
            os.kill(os.getpid(), self.signal_number)

    monkeypatch.setattr("keras_ssl.runs.pretrain._build_monitors", lambda *_: [StopAtOnce(0)])
    status, out, _ = pretrain_digits("--out", tmp_path / "run")
    assert status == 128 + signal.SIGINT
    assert "Stopped before the first step; there was nothing to save yet. To start:" in out
    assert "everything is saved" not in out
    assert checkpoints(Run(tmp_path / "run").checkpoints) == []


def test_a_run_does_not_resume_with_other_images(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)
    np.savez(tmp_path / "few.npz", images=images, labels=np.arange(40) % 3)
    words = ["--data", tmp_path / "few.npz", "--out", tmp_path / "run"]
    common = ["--epochs", 1, "--batch-size", 8, *TINY, "--method", "memory-bank", "--probe"]
    status, _, err = call("pretrain", *words, *common)
    assert status == 0, err
    config = Run(tmp_path / "run").config
    assert (config["image_count"], config["class_count"]) == (40, 3)  # they have no names
    np.savez(tmp_path / "few.npz", images=images[:30], labels=np.arange(30) % 3)
    status, _, err = call("pretrain", "--resume", tmp_path / "run")
    assert status == 1
    assert "Expected: 40 images" in err
    assert "Received: 30 " in err


def test_a_run_without_newer_options(run, photos, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(run[0], old)
    config = json.loads((old / "config.json").read_text())
    later = ("momentum", "final_momentum", "queue_size", "groups", "probe", "chunks", "image_count")
    for name in later:
        config["settings"].pop(name, None)
    del config["settings"]["class_count"]
    (old / "config.json").write_text(json.dumps(config))
    words = ["--data", photos, "--labels-per-class", 1, "--draws", 2]
    status, _, err = call("evaluate", old, *words)
    assert status == 0, err
    before, after = (Run(path).encoder().get_weights() for path in (run[0], old))
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
    status, out, err = call("pretrain", "--resume", old)
    assert status == 0, err
    assert "Done: epoch 2" in out


@pytest.mark.large
def test_resume_evaluates_on_the_images_of_the_run(run, photos, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run[0], copy)
    words = ["--evaluate", "--labels-per-class", 1]
    status, out, err = call("pretrain", "--resume", copy, *words)
    assert status == 0, err
    assert json.loads((copy / "metrics.json").read_text())["data"] == str(photos)
    assert f"SavedModel: {copy / 'export'}" in out
    assert (copy / "export" / "saved_model.pb").is_file()
