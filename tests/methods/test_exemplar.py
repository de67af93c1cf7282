"""Exemplar: its loss, and images on which the task is impossible. See tests/contract.py."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.backbones import Tiny
from keras_ssl.data.parallel import with_threads
from keras_ssl.methods import Exemplar

SHAPE = (8, 8, 3)


def exemplar(size=9):
    keras.utils.set_random_seed(1)
    return Exemplar(Tiny(SHAPE, features=8), size)


def data(*parts):
    return with_threads(tf.data.Dataset.from_tensors(parts))


def images(count):
    return np.random.default_rng(0).random((count, *SHAPE), np.float32)


def test_the_loss_is_the_cross_entropy_of_the_images_number():
    model = exemplar()
    index = np.array([7, 2, 0, 5])
    scores = model.classifier(model.backbone(images(4), training=True)).numpy().astype("float64")
    log_sums = np.log(np.exp(scores).sum(axis=1))
    expected = np.mean(log_sums - scores[np.arange(4), index])
    model.compile(keras.optimizers.SGD(0.1))
    logs = model.fit(data(images(4), index), verbose=0).history
    assert logs["loss"][0] == pytest.approx(expected, rel=1e-5)
    assert logs["accuracy"][0] == np.mean(np.argmax(scores, axis=1) == index)


@pytest.mark.parametrize("scale", [1, 30])
def test_equal_images_cannot_be_told_apart(scale):
    model = exemplar(size=6)
    model.set_weights([scale * weight for weight in model.get_weights()])
    same = np.repeat(images(1), 6, axis=0)
    logits = model.classifier(model.features(same, training=False))
    loss = float(model.classification_loss(logits, np.arange(6)))
    assert loss >= np.log(6) - 1e-5
    assert loss > np.log(6) + 0.001 or scale == 1


def test_panels_name_the_predicted_images():
    model = exemplar()
    index = np.array([7, 2, 0, 5])
    (panel,) = model.panels(images(4), index)
    guess = np.argmax(model.classifier(model(images(4))), axis=1)
    assert panel.captions[1] == f"image 2, predicted {guess[1]}"
    np.testing.assert_array_equal(panel.images, images(4))


def test_an_index_beyond_the_classes_is_an_error():
    model = exemplar()
    model.compile("sgd", jit_compile=False)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"9 which is outside the valid range"):
        model.fit(data(images(4), np.array([0, 1, 2, 9])), verbose=0)


@pytest.mark.parametrize("size", [1, 100_001])
def test_refuses_numbers_of_images_that_make_no_softmax(size):
    with pytest.raises(ValueError, match=rf"from 2 to 100000; MemoryBank.*Received: size={size}"):
        exemplar(size)


def test_refuses_batches_without_indices_or_with_two_views():
    model = exemplar()
    model.compile("sgd")
    with pytest.raises(ValueError, match=r"\(view, index\), .*indices=True|a tuple of views"):
        model.fit(data(images(4)), verbose=0)
    with pytest.raises(ValueError, match="exactly 1 view of each image"):
        model.fit(data(images(4), images(4), np.arange(4)), verbose=0)
