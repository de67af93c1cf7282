"""Jigsaw: the orders, and what it cannot learn. See tests/contract.py for the rest."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.augment import random
from keras_ssl.backbones import Tiny
from keras_ssl.layers import tile_permutations
from keras_ssl.methods import Jigsaw

KEYS = random.image_keys(3, 0, np.arange(2000), random.METHOD)


def make(permutations=504):
    backbone = Tiny((None, None, 1), 8, strides=(1, 2, 2))
    return Jigsaw(backbone, keras.layers.Dense(4), permutations=permutations)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return make()


def test_the_inverse_order_restores_the_tiles(model):
    tiles = np.arange(5 * 9, dtype="float32").reshape(5, 9, 1, 1, 1)
    number = model.draw(KEYS[:5])
    shuffled = np.asarray(model.shuffle(tf.constant(tiles), number))
    assert not np.array_equal(shuffled, tiles)
    for image, row in enumerate(tile_permutations()[number]):
        np.testing.assert_array_equal(shuffled[image], tiles[image, row])
        np.testing.assert_array_equal(shuffled[image, np.argsort(row)], tiles[image])


def test_all_orders_are_equally_likely():
    numbers = np.asarray(make(10).draw(KEYS))
    counts = np.bincount(numbers, minlength=10)
    assert counts.sum() == 2000
    assert counts.min() > 150  # 200 +- 13


def test_a_linear_classifier_solves_it_from_the_tiles_names():
    # With one-hot tiles, an order scores 9 for itself and at most 2 for any other.
    names = np.eye(9)[tile_permutations()].reshape(504, 81)
    scores = names @ names.T
    assert set(np.diag(scores)) == {9.0}
    assert (scores - 9 * np.eye(504)).max() == 2


def test_the_loss_is_the_cross_entropy_of_the_order(model):
    view = np.random.default_rng(0).random((4, 24, 24, 1), np.float32)
    keys = KEYS[:4]
    number = np.asarray(model.draw(keys))
    tiles = np.asarray(model.tiles(tf.constant(view), keys))
    shuffled = np.stack([tiles[i, tile_permutations()[number[i]]] for i in range(4)])
    h = model.backbone(shuffled.reshape(36, 6, 6, 1), training=True)
    z = np.asarray(model.projector(h, training=True)).reshape(4, 36)
    logits = np.asarray(model.classifier(z), "float64")
    log_share = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = -log_share[np.arange(4), number].mean()
    assert float(model.ssl_loss(tf.constant(view), keys)) == pytest.approx(expected, rel=1e-4)


def test_equal_tiles_have_at_least_the_loss_of_guessing_on_average_over_all_orders(model):
    rows, columns = np.mgrid[:24, :24] / 24
    ramp = tf.constant((0.2 + 0.3 * rows + 0.4 * columns)[None, :, :, None], tf.float32)
    tiles = model.tiles(ramp, KEYS[:1])
    logits = tf.repeat(100 * model.classify(tiles, training=False), 504, axis=0)
    loss = model.classification_loss(logits, tf.range(504))
    assert float(loss) >= np.log(504) - 1e-4


def test_panels_show_the_solved_puzzle(model):
    view = tf.constant(np.random.default_rng(0).random((3, 24, 24, 1), np.float32))
    views, shuffled, solved = model.panels(view, KEYS[:3])
    np.testing.assert_array_equal(views.images, view)
    assert shuffled.images.shape == solved.images.shape == (3, 21, 21, 1)
    assert all(caption.endswith(" of 9 tiles right") for caption in solved.captions)
    np.testing.assert_allclose(  # the same tiles
        np.sort(shuffled.images.ravel()), np.sort(solved.images.ravel())
    )


def test_a_right_prediction_restores_the_image(model, monkeypatch):
    view = tf.constant(np.random.default_rng(0).random((3, 24, 24, 1), np.float32))
    number = model.draw(KEYS[:3])
    monkeypatch.setattr(model, "classify", lambda tiles, training: np.eye(504)[number])
    *_, solved = model.panels(view, KEYS[:3])
    assert list(solved.captions) == ["9 of 9 tiles right"] * 3
    tiles = np.clip(model.tiles(view, KEYS[:3]), 0, 1)
    np.testing.assert_array_equal(solved.images[:, 7:13, 7:13], tiles[:, 4])

    # Two permutations of the set agree in two places at most.
    other = (np.asarray(number) + 1) % 504
    monkeypatch.setattr(model, "classify", lambda tiles, training: np.eye(504)[other])
    *_, solved = model.panels(view, KEYS[:3])
    agree = np.sum(model.orders[other] == model.orders[np.asarray(number)], axis=1)
    assert list(solved.captions) == [f"{count} of 9 tiles right" for count in agree]
    assert max(agree) <= 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"permutations": 505}, "`count` must be from 2 to 504"),
        ({"classifier": keras.layers.Dense(9)}, r"Jigsaw must return 504 logits\. Received: .*9"),
        ({"share": 2}, "`share` must lie in"),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Jigsaw(Tiny((None, None, 1), 8, strides=(1, 2, 2)), keras.layers.Dense(4), **arguments)
