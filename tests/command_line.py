"""Calls `keras-ssl` in this process."""

import contextlib
import io
import os
import signal

import keras
import pytest

from keras_ssl import cli

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
