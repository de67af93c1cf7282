"""Calls `keras-ssl` in this process."""

import contextlib
import io
import os
import signal

import keras
import numpy as np
import pytest

from keras_ssl import cli, export
from keras_ssl.runs import training
from keras_ssl.runs.directory import Run

TINY = ["--backbone", "tiny", "--width", "0.25", "--embedding", "8"]


def call(*words):
    """Runs a command and returns its exit status, output and error output."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as stop,
    ):
        cli.main([str(word) for word in words])
    return stop.value.code or 0, out.getvalue(), err.getvalue()


def pretrain_digits(*words):
    """Runs `keras-ssl pretrain` on the digits with a tiny network, for three epochs of two steps."""
    common = ["--data", "digits", "--epochs", 3, "--batch-size", 500, "--knn-every", 0, *TINY]
    return call("pretrain", *common, *words)


class StopAt(keras.callbacks.Callback):
    """Sends a signal to this process after some training steps."""

    def __init__(self, step, signal_number=signal.SIGINT):
        super().__init__()
        self.left = step
        self.signal_number = signal_number

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.signal_number)


def interrupt(monkeypatch, *words):
    """Runs a command that trains, which a signal stops after three steps of its first stage."""
    original, stop = training.train, StopAt(3, signal.SIGTERM)

    def train(*arguments, callbacks=(), **settings):
        return original(*arguments, callbacks=[*callbacks, stop], **settings)

    with monkeypatch.context() as patch:
        patch.setattr(training, "train", train)
        status, out, err = call(*words)
    assert status == 143, err
    assert "Stopped after step 3; everything is saved. To continue:" in out
    assert f"keras-ssl {words[0]} --resume {words[-1]}\n" in out


def assert_same_weights(run, other):
    """Compares exported weights."""
    weights = [export.load(each.export_path).get_weights() for each in (run, other)]
    for one, two in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, two)


def assert_same_run(path, other):
    """Compares exported weights, histories, and results."""
    whole, resumed = Run(path), Run(other)
    assert_same_weights(whole, resumed)
    assert whole.history == resumed.history
    assert whole.metrics["result"] == resumed.metrics["result"]
