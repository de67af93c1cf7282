"""SavedModels with outside effects are refused, all others pass."""

import keras
import pytest
import tensorflow as tf

from keras_ssl import export
from keras_ssl.backbones import Tiny
from keras_ssl.untrusted import check_saved_model


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "tiny"
    return export.saved_model(Tiny((8, 8, 3), features=8), path)


def test_exported_models_pass(good):
    check_saved_model(good)


def test_keras_exports_pass(tmp_path):
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.Dropout(0.5), layers.Flatten()]
    )
    model.export(tmp_path / "keras", verbose=False)
    check_saved_model(tmp_path / "keras")


def save(function, path):
    """Saves a module that calls `function` in a branch of a `tf.cond`."""

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 3))])
        def __call__(self, images):
            inner = tf.function(function)
            return tf.cond(tf.reduce_sum(images) > 1e9, lambda: inner(images), lambda: images)

    module = Module()
    tf.saved_model.save(module, str(path), signatures=module.__call__)
    return path


def run_python(images):
    return tf.ensure_shape(tf.py_function(lambda x: x, [images], tf.float32), (None, 3))


def write(images):
    tf.io.write_file("/tmp/keras_ssl_test_never_written", "x")
    return images


def print_to_file(images):
    tf.print("text", output_stream="file:///tmp/keras_ssl_test_never_written")
    return images


def read(images):
    return images + tf.cast(tf.strings.length(tf.io.read_file("/etc/passwd")), tf.float32)


def save_checkpoint(images):
    tf.raw_ops.SaveV2(
        prefix="/tmp/keras_ssl_test_never_written",
        tensor_names=["a"],
        shape_and_slices=[""],
        tensors=[images],
    )
    return images


def count_lines(images):
    lines = tf.data.TextLineDataset("/etc/passwd")
    zero = tf.constant(0, tf.int64)
    return images + tf.cast(lines.reduce(zero, lambda n, _: n + 1), tf.float32)


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (write, "WriteFile"),
        (print_to_file, "PrintV2"),
        (read, "ReadFile"),
        (save_checkpoint, "SaveV2"),
        (run_python, "EagerPyFunc"),
        (count_lines, "TextLineDataset"),
    ],
)
def test_operations_with_outside_effects_are_refused(function, operation, tmp_path):
    path = save(function, tmp_path / "bad")
    with pytest.raises(
        ValueError, match=f"Expected: only operations without outside effects.*{operation}"
    ):
        check_saved_model(path)


def test_other_formats_and_damage_are_refused(good, tmp_path):
    with pytest.raises(FileNotFoundError, match="must be the directory of a SavedModel"):
        check_saved_model(tmp_path)
    content = (good / "saved_model.pb").read_bytes()
    (tmp_path / "saved_model.pb").write_bytes(content[:1000])
    with pytest.raises(ValueError, match="Expected: a complete"):
        check_saved_model(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(content)
    check_saved_model(tmp_path)
    (tmp_path / "saved_model.cpb").write_bytes(b"")
    with pytest.raises(ValueError, match=r"with saved_model\.cpb"):
        check_saved_model(tmp_path)
