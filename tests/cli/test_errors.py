"""Errors of the command line: one message, no traceback, and no new files."""

import os
import pathlib
import re
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import cli
from keras_ssl.runs.directory import Run
from tests.command_line import TINY, call

# A small run with a checkpoint.
OLD_RUN = pathlib.Path(__file__).parents[1] / "runs" / "old_run" / "run"

BAD = {
    "no such folder": (["--data", "nowhere/at/all"], "there is no such file or folder"),
    "a folder without images": (["--data", "EMPTY"], "must hold image files.* 1 *.txt"),
    "no data": ([], r"`data` \(--data DATA\), or `resume` \(--resume RUN\). Received: neither"),
    "a large batch": (
        ["--data", "digits", "--batch-size", 2000],
        "`batch_size` must not be larger than the data set. Received: batch_size=2000, and 1437 images",
    ),
    "an unknown method": (
        ["--data", "digits", "--method", "simclear"],
        "Unknown method. Nearest: simclr.",
    ),
    "an unknown data set": (
        ["--data", "tfds:cifar01", "--data-dir", "EMPTY"],
        "nearest names: .*cifar10",
    ),
    "a misspelt data set": (["--data", "digit"], "Did you mean 'digits'"),
    "an unknown backbone": (
        ["--data", "digits", "--backbone", "resnet19"],
        "Unknown backbone. Nearest: resnet18",
    ),
    "an unknown policy": (
        ["--data", "digits", "--policy", "simclr-big"],
        "Unknown policy of views. Nearest: simclr",
    ),
    "an unknown optimizer": (
        ["--data", "digits", "--optimizer", "adamm"],
        "Unknown optimizer. Nearest: adam",
    ),
    "an unknown strategy": (
        ["--data", "digits", "--strategy", "mirorred"],
        "Unknown strategy. Nearest: mirrored",
    ),
    "an unknown precision": (
        ["--data", "digits", "--precision", "mixed_float8"],
        "Unknown precision. Nearest: mixed_float16",
    ),
    "a negative temperature": (
        ["--data", "digits", "--temperature", "-1"],
        "`temperature` must be positive. Received: temperature=-1",
    ),
    "a temperature of BYOL": (
        ["--data", "digits", "--method", "byol", "--temperature", 0.1],
        "--method byol has no --temperature: that is an option of simclr, "
        "simclr-memory, moco, memory-bank",
    ),
    "a queue of SimCLR": (
        ["--data", "digits", "--queue-size", 64],
        "--method simclr has no --queue-size: that is an option of simclr-memory, moco",
    ),
    "a momentum of the memory bank": (
        ["--data", "digits", "--method", "memory-bank", "--momentum", 0.9],
        "--method memory-bank has no --momentum: that is an option of simclr-memory, moco, byol",
    ),
    "a momentum above 1": (
        ["--data", "digits", "--method", "byol", "--momentum", 1.5],
        "`momentum` must lie in .* momentum=1.5",
    ),
    "an empty queue": (
        ["--data", "digits", "--method", "moco", "--queue-size", 0],
        "`queue_size` must be at least 1. Received: queue_size=0",
    ),
    "groups that do not divide the batch": (
        ["--data", "digits", "--method", "moco", "--groups", 7],
        "`groups` must be 1, or divide `batch_size` .*: groups=7, batch_size=256, 1 replicas",
    ),
    "chunks that do not divide the batch": (
        ["--data", "digits", "--chunks", 3],
        "`chunks` must divide .*: chunks=3, batch_size=256, 1 devices",
    ),
    "groups that chunks do not share": (
        ["--data", "digits", "--method", "moco", "--groups", 2, "--chunks", 4],
        "replicas times `chunks`. Received: groups=2, batch_size=256, 1 replicas, chunks=4",
    ),
    "no chunks": (
        ["--data", "digits", "--chunks", 0],
        "`chunks` must be at least 1",
    ),
    "a probe without classes": (
        ["--data", "UNLABELLED", "--probe", "--batch-size", 4],
        "`probe` needs labels: .* 'UNLABELLED train', without labels",
    ),
    "a negative rate": (
        ["--data", "digits", "--learning-rate", "-1"],
        "`learning_rate` must be positive. Received: learning_rate=-1",
    ),
    "an infinite rate": (
        ["--data", "digits", "--learning-rate", "inf"],
        "`learning_rate` must be positive and finite. Received: learning_rate=inf",
    ),
    "a negative weight decay": (
        ["--data", "digits", "--weight-decay", "-1"],
        "`weight_decay` must be at least 0. Received: weight_decay=-1",
    ),
    "a negative seed": (["--data", "digits", "--seed", "-1"], "`seed` must lie in"),
    "no epochs": (
        ["--data", "digits", "--epochs", 0],
        "`epochs` must be at least 1. Received: .*=0",
    ),
    "a negative warm-up": (["--data", "digits", "--warmup-epochs", "-1"], "must be at least 0"),
    "two channels": (["--data", "EMPTY", "--channels", 2], "`channels` must be 1 or 3"),
    "a kNN accuracy without labels": (
        ["--data", "digits", "--knn-data", "UNLABELLED"],
        "Evaluation needs labels.",
    ),
    "a kNN accuracy of missing data": (
        ["--data", "digits", "--knn-data", "nowhere"],
        "there is no such file or folder",
    ),
    "no run to resume": (["--resume", "EMPTY"], "A run directory must contain config.json"),
    "a run of another program": (["--resume", "OTHER"], "must be one of `keras-ssl pretrain`"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_prints_one_message_and_creates_nothing(name, tmp_path, monkeypatch):
    words, message = BAD[name]
    monkeypatch.chdir(tmp_path)
    pathlib.Path("EMPTY").mkdir()
    pathlib.Path("EMPTY", "notes.txt").touch()
    np.savez("UNLABELLED", images=np.zeros((10, 8, 8, 1), np.uint8))
    pathlib.Path("UNLABELLED.npz").rename("UNLABELLED")
    Run.create("OTHER", {"epochs": 3})
    before = sorted(tmp_path.rglob("*"))
    small = TINY if "--backbone" not in words and "--resume" not in words else []
    status, out, err = call("pretrain", *words, *small)
    assert status == 1
    assert err.startswith("keras-ssl: error: ")
    assert re.search(message.replace("*.txt", r"\*\.txt"), err), err
    assert err.count("\n") == 2  # the message, and where to see more
    assert "Traceback" not in out + err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "EMPTY", "--data", "digits"], "EMPTY"),
        (["evaluate", "RUN", "--data", "nowhere"], "there is no such file or folder"),
        (["evaluate", "OTHER", "--data", "digits"], "must be one of `keras-ssl pretrain`"),
        (["predict", "EMPTY", "--data", "digits"], "Received: 'EMPTY', with notes.txt"),
        (["predict", "RUN", "--data", "digits"], "which is an encoder without classes"),
        (["embed", "RUN", "--data", "digits", "--out", "f.txt"], "must end in .npz or .parquet"),
        (["finetune", "RUN", "--data", "digits", "--labels", "2"], "--labels must lie in (0, 1]"),
        (["search", "MISSING", "--query", "0"], "'MISSING', and there is no such file"),
        (["evaluate", "MISSING", "--data", "digits"], "'MISSING', and there is no such directory"),
        (
            ["export", "EMPTY"],
            "must be a run directory, which contains config.json, or the directory",
        ),
        (["export", "NEW"], "must have a checkpoint"),
        (["demo", "--epochs", "0", "--out", "made"], "`epochs` must be at least 1"),
        (["demo", "--epochs", "1", "--out", "EMPTY"], "A run needs a new directory"),
    ],
)
def test_bad_input_of_other_commands(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = OLD_RUN
    pathlib.Path("EMPTY").mkdir()
    pathlib.Path("EMPTY", "notes.txt").touch()
    Run.create("OTHER", {"epochs": 3})
    Run.create("NEW", Run(path).config)
    before = sorted(tmp_path.rglob("*"))
    status, _, err = call(*[path if word == "RUN" else word for word in words])
    assert status == 1
    assert message in err
    assert err.count("\n") == 2
    assert sorted(tmp_path.rglob("*")) == before


def fail(error):
    def execute(self):
        raise error

    return execute


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("The outputs of the export differ"), "The outputs of the export differ"),
        (OSError(28, "No space left on device", "export"), "[Errno 28] No space left on device"),
        (ImportError('ONNX needs tf2onnx: pip install "keras_ssl[onnx]"'), "pip install"),
        (MemoryError(), "There is not enough memory."),
        (EOFError(), "EOFError"),
        (zipfile.BadZipFile("File is not a zip file"), "File is not a zip file"),
        (
            tf.errors.ResourceExhaustedError(
                None,
                None,
                "Graph execution error:\n\nDetected at node add defined at (most recent call last):\n"
                "<stack traces unavailable>\n{{function_node f}} OOM when allocating tensor [Op:Add]\n"
                "\t [[{{node add}}]]",
            ),
            "TensorFlow: ResourceExhaustedError: OOM when allocating tensor\n",
        ),
    ],
)
def test_errors_that_a_user_can_cause_are_one_message(error, message, monkeypatch):
    monkeypatch.setattr("keras_ssl.cli.export.Export.execute", fail(error))
    status, out, err = call("export", OLD_RUN)
    assert status == 1
    assert message in err
    assert err.count("\n") == 2
    assert "Traceback" not in out + err


@pytest.mark.parametrize("error", [KeyError("epochs"), AssertionError(), NotImplementedError()])
def test_errors_of_the_program_show_a_traceback(error, monkeypatch):
    monkeypatch.setattr("keras_ssl.cli.export.Export.execute", fail(error))
    with pytest.raises(type(error)):
        cli.main(["export", str(OLD_RUN)])


@pytest.mark.parametrize("content", ["{", "[]", '{"layers": 3}'])
@pytest.mark.parametrize("words", [["export"], ["distill", "--resume"], ["pretrain", "--resume"]])
def test_a_damaged_config(content, words, tmp_path):
    (tmp_path / "config.json").write_text(content)
    status, _, err = call(*words, tmp_path)
    assert status == 1
    assert "config.json of a run must be a JSON file with an entry 'settings'" in err


def test_an_environment_variable_shows_the_traceback(monkeypatch):
    monkeypatch.setenv("KERAS_SSL_TRACEBACK", "1")
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        cli.main(["pretrain", "--data", "nowhere"])


@pytest.mark.parametrize("buffering", [-1, 1])
def test_a_closed_pipe_is_no_error(monkeypatch, capfd, buffering):
    """As in `keras-ssl --version | true`."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering) as closed:
        monkeypatch.setattr("sys.stdout", closed)
        with pytest.raises(SystemExit) as stop:
            cli.main(["--version"])
        assert stop.value.code == 141
        monkeypatch.undo()
    assert capfd.readouterr().err == ""


def test_ctrl_c_before_training(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("keras_ssl.cli.pretrain.Pretrain.execute", interrupt)
    status, _, err = call("pretrain", "--data", "digits")
    assert status == 130
    assert "stopped" in err
