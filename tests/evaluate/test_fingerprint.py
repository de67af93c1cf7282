import keras
import numpy as np
import pytest

from keras_ssl import data, evaluate
from keras_ssl.backbones import Tiny
from keras_ssl.evaluate.fingerprint import unchanged


def test_a_backbone_that_changes_is_noticed():
    digits = data.digits("test")

    @keras.saving.register_keras_serializable(package="tests")
    class Counter(keras.layers.Layer):
        def build(self, shape):
            self.count = self.add_weight(name="count", trainable=False, initializer="zeros")

        def call(self, images):
            self.count.assign_add(1e-6)
            return images

    model = keras.Sequential([keras.Input((8, 8, 1)), Counter(), keras.layers.Flatten()])
    with pytest.raises(RuntimeError, match="changed during its evaluation"):
        evaluate.extract(model, digits)
    with pytest.raises(RuntimeError, match="changed during its evaluation"):
        evaluate.knn(model, digits, digits)


def test_unchanged_does_not_hide_another_error():
    backbone = evaluate.pixels((8, 8, 1))

    def fail():
        with unchanged(backbone):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail()


def test_fingerprint_sees_one_bit():
    model = Tiny((8, 8, 1), features=16)
    before = evaluate.fingerprint(model)
    assert evaluate.fingerprint(model) == before
    variable = model.variables[-1]
    value = keras.ops.convert_to_numpy(variable)
    variable.assign(np.nextafter(value, np.float32(np.inf)))
    assert evaluate.fingerprint(model) != before
    variable.assign(value)
    assert evaluate.fingerprint(model) == before
