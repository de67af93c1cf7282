"""Messages of TensorFlow and other libraries during an export."""

import importlib.util
import logging
import os
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import export
from keras_ssl.backbones import Tiny
from keras_ssl.export.parity import to_graph
from keras_ssl.export.quiet import quiet_conversion


def test_an_export_adds_no_handler_and_no_message(tmp_path, monkeypatch):
    """A handler of absl on the root logger would repeat all later warnings."""
    monkeypatch.setattr(logging.root, "handlers", [])  # those of pytest
    log = tf.get_logger()
    monkeypatch.setattr(log, "level", logging.INFO)  # as in a notebook
    messages = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: messages.append(record.getMessage()))
    monkeypatch.setattr(log, "handlers", [handler])
    export.saved_model(Tiny((8, 8, 1), features=4), tmp_path / "export")
    assert logging.root.handlers == []
    assert messages == []
    assert log.level == logging.INFO


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_litert_prints_nothing(quantize, tmp_path, capfd, monkeypatch):
    pytest.importorskip("ai_edge_litert.interpreter")
    network = Tiny((8, 8, 1), features=4)
    images = np.random.default_rng(0).random((8, 8, 8, 1), np.float32)
    monkeypatch.setattr(logging.root, "handlers", [])
    capfd.readouterr()
    export.lite(network, tmp_path / "a.tflite", quantize, images)
    assert capfd.readouterr() == ("", "")
    assert logging.root.handlers == []


@pytest.mark.skipif(importlib.util.find_spec("tf2onnx") is None, reason="needs tf2onnx")
def test_onnx_prints_nothing(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(logging.root, "handlers", [])
    network = Tiny((8, 8, 1), features=4)
    capfd.readouterr()
    export.onnx(network, tmp_path / "a.onnx")
    assert capfd.readouterr() == ("", "")
    assert logging.root.handlers == []


@pytest.mark.parametrize("error", [None, ValueError])
def test_only_messages_below_errors_are_hidden(error, capfd):
    def convert():
        os.write(2, b"INFO: Created a delegate\nE0000 00:00:1.2 9 a.cc:1] broken\n")
        print("a warning of Python", file=sys.stderr)
        os.write(2, b"W0000 00:00:1.2 9 a.cc:1] Ignored output_format.\nfully_quantize: 0\n")
        if error is not None:
            raise error

    try:
        with quiet_conversion():
            convert()
    except ValueError:
        assert error is ValueError
    os.write(2, b"INFO: later\n")
    lines = capfd.readouterr().err.splitlines()
    assert lines[-1] == "INFO: later"
    assert sorted(lines[:-1]) == ["E0000 00:00:1.2 9 a.cc:1] broken", "a warning of Python"]


def test_a_process_without_standard_error(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with quiet_conversion():
        pass


def test_many_comparisons_in_one_process_do_not_warn_of_retracing(monkeypatch):
    messages = []
    log = tf.get_logger()
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: messages.append(record.getMessage()))
    monkeypatch.setattr(log, "handlers", [handler])
    for number in range(8):
        images = np.ones((1, 4), np.float32)
        result = to_graph(lambda batch, training, number=number: batch + number)(images)
        np.testing.assert_array_equal(result, images + number)
    assert messages == []
