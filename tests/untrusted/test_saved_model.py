"""SavedModels that would do more than compute, and those that would not."""

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


def test_ours_pass(good):
    check_saved_model(good)


def test_those_of_keras_pass(tmp_path):
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.Dropout(0.5), layers.Flatten()]
    )
    model.export(tmp_path / "keras", verbose=False)
    check_saved_model(tmp_path / "keras")


def saved(function, path):
    """Saves a module whose call runs `function` on a way of its own."""

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 3))])
        def __call__(self, images):
            inner = tf.function(function)
            return tf.cond(tf.reduce_sum(images) > 1e9, lambda: inner(images), lambda: images)

    module = Module()
    tf.saved_model.save(module, str(path), signatures=module.__call__)
    return path


def python(images):
    return tf.ensure_shape(tf.py_function(lambda x: x, [images], tf.float32), (None, 3))


def written(images):
    tf.io.write_file("/tmp/keras_ssl_test_never_written", "x")
    return images


def printed(images):
    tf.print("text", output_stream="file:///tmp/keras_ssl_test_never_written")
    return images


def read(images):
    return images + tf.cast(tf.strings.length(tf.io.read_file("/etc/passwd")), tf.float32)


def saving(images):
    tf.raw_ops.SaveV2(
        prefix="/tmp/keras_ssl_test_never_written",
        tensor_names=["a"],
        shape_and_slices=[""],
        tensors=[images],
    )
    return images


def data(images):
    lines = tf.data.TextLineDataset("/etc/passwd")
    return images + tf.cast(lines.reduce(np_zero(), lambda n, _: n + 1), tf.float32)


def np_zero():
    return tf.constant(0, tf.int64)


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (written, "WriteFile"),
        (printed, "PrintV2"),
        (read, "ReadFile"),
        (saving, "SaveV2"),
        (python, "EagerPyFunc"),
        (data, "TextLineDataset"),
    ],
)
def test_operations_that_reach_outside_are_refused(function, operation, tmp_path):
    path = saved(function, tmp_path / "bad")
    with pytest.raises(ValueError, match=f"Expected: operations that compute.*{operation}"):
        check_saved_model(path)


def test_other_forms_and_damage_are_refused(good, tmp_path):
    with pytest.raises(FileNotFoundError, match="no SavedModel to check"):
        check_saved_model(tmp_path)
    content = (good / "saved_model.pb").read_bytes()
    (tmp_path / "saved_model.pb").write_bytes(content[:1000])
    with pytest.raises(ValueError, match="Expected: a whole"):
        check_saved_model(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(content)
    check_saved_model(tmp_path)
    (tmp_path / "saved_model.cpb").write_bytes(b"")
    with pytest.raises(ValueError, match=r"with saved_model\.cpb"):
        check_saved_model(tmp_path)
