import keras
import numpy as np
import pytest

from keras_ssl import export
from keras_ssl.backbones import Tiny
from keras_ssl.distill import calibrated
from keras_ssl.evaluate.classifier import with_classes

IMAGES = np.random.default_rng(0).random((4, 8, 8, 3)).astype("float32")


def make_network():
    return with_classes(Tiny((8, 8, 3), features=16), 5, seed=0)


def test_scores_are_divided_by_the_temperature():
    student = make_network()
    scores = np.asarray(student(IMAGES), np.float64)
    expected = np.exp(scores / 0.1) / np.exp(scores / 0.1).sum(1, keepdims=True)
    found = keras.ops.softmax(calibrated(student, 0.1)(IMAGES))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_temperature_1_returns_the_network_itself():
    student = make_network()
    assert calibrated(student, 1.0) is student


def test_two_calibrations_multiply_and_survive_export(tmp_path):
    student = make_network()
    twice = calibrated(calibrated(student, 0.5), 0.25)
    np.testing.assert_allclose(twice(IMAGES), 8 * student(IMAGES), rtol=1e-5)
    # Export and loading keep the scores.
    loaded = export.load(export.saved_model(twice, tmp_path / "student"))
    np.testing.assert_allclose(loaded(IMAGES), twice(IMAGES), rtol=1e-5)
    assert len(loaded.trainable_variables) == len(student.trainable_variables)


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan")])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(
        ValueError, match=r"`temperature` must be positive\. Received: temperature="
    ):
        calibrated(make_network(), temperature)
