"""RelativeLocation: the pairs, and what it cannot learn. See tests/contract.py for the rest."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.augment import random
from keras_ssl.backbones import Tiny
from keras_ssl.layers import MLPHead
from keras_ssl.methods import RelativeLocation

KEYS = random.image_keys(3, 0, np.arange(4), random.METHOD)
PLACES = [0, 1, 2, 3, 5, 6, 7, 8]


def make(**arguments):
    head = MLPHead(8, 16, batch_norm=True)
    return RelativeLocation(Tiny((None, None, 3), 8, strides=(1, 2, 2)), head, **arguments)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return make()


@pytest.fixture(scope="module")
def view():
    return np.random.default_rng(0).random((4, 24, 24, 3), np.float32)


def test_the_loss_is_the_cross_entropy_of_the_eight_neighbors(model, view):
    tiles = np.asarray(model.tiles(tf.constant(view), KEYS))  # (4, 9, 6, 6, 3)
    h = np.asarray(model.backbone(tiles.reshape(36, 6, 6, 3), training=True)).reshape(4, 9, 8)
    pairs = [np.concatenate([h[i, 4], h[i, place]]) for i in range(4) for place in PLACES]
    logits = np.asarray(model.classifier(np.stack(pairs), training=True), "float64")
    log_share = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = -np.mean([log_share[row, row % 8] for row in range(32)])
    assert float(model.ssl_loss(tf.constant(view), KEYS)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("seed", range(2))
def test_a_linear_ramp_has_at_least_the_loss_of_guessing(seed):
    keras.utils.set_random_seed(seed)
    model = make()
    head = model.classifier.stack[-1]
    head.kernel.assign(100 * head.kernel)  # far from uniform answers
    rows, columns = np.mgrid[:24, :24] / 24
    ramp = 0.2 + 0.3 * rows + 0.4 * columns
    view = tf.constant(np.broadcast_to(ramp[None, :, :, None], (4, 24, 24, 3)), tf.float32)
    logits = model.classify(model.tiles(view, KEYS), training=False)
    loss = model.classification_loss(logits, tf.tile(tf.range(8), [4]))
    assert float(loss) >= np.log(8) - 1e-4


def test_panels_show_the_recognized_tiles(model, view, monkeypatch):
    logits = np.eye(8)[[*range(8)] * 3 + [0, 1, 2, 7, 4, 5, 6, 3]]  # left and below right swapped
    monkeypatch.setattr(model, "classify", lambda tiles, training: logits)
    views, tiles, recognized, other = model.panels(tf.constant(view), KEYS)
    np.testing.assert_array_equal(views.images, view)
    assert tiles.images.shape == recognized.images.shape == (4, 21, 21, 3)
    assert list(recognized.captions) == ["8 of 8"] * 3 + ["6 of 8"]
    np.testing.assert_array_equal(recognized.images[:3], tiles.images[:3])
    changed = np.any(recognized.images[3] != tiles.images[3], axis=-1)
    assert changed[7:13, :6].all()  # left
    assert changed[14:20, 14:20].all()  # below right
    assert changed.sum() == 2 * 36
    assert other.captions[0] == "above left, predicted above left"
    assert other.captions[3] == "left, predicted below right"
    np.testing.assert_array_equal(other.images[3], tiles.images[3, 7:13, :6])


def test_a_backbone_of_one_size_is_refused():
    with pytest.raises(ValueError, match=r"images of any size.*shape=\(None, 24, 24, 3\)"):
        RelativeLocation(Tiny((24, 24, 3)))


def test_batches_without_keys_are_refused(model, view):
    model.compile("sgd")
    with pytest.raises(ValueError, match="keys=True"):
        model.fit(tf.data.Dataset.from_tensors((view,)), verbose=0)
