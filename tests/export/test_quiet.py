"""Messages of TensorFlow during an export."""

import logging

import tensorflow as tf

from keras_ssl import export
from keras_ssl.backbones import Tiny


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
