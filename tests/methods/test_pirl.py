"""PIRL: its two losses and its bank. See tests/contract.py for the rest."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.augment import ColorJitter, pirl, random
from keras_ssl.backbones import Tiny
from keras_ssl.data.parallel import with_threads
from keras_ssl.layers import MLPHead
from keras_ssl.methods import PIRL, MemoryBank

INDEX = np.array([7, 2, 0, 5])
KEYS = random.image_keys(3, 0, INDEX, random.METHOD)
SIZES = {"size": 9, "negatives": 30}


def backbone():
    return Tiny((None, None, 3), 8, strides=(1, 2, 2))


def make(**arguments):
    keras.utils.set_random_seed(1)
    head = MLPHead(6, depth=1)
    return PIRL(backbone(), head, MLPHead(5, depth=1), **{**SIZES, **arguments})


@pytest.fixture(scope="module")
def views():
    return np.random.default_rng(0).random((2, 4, 24, 24, 3), np.float32)


def fit(model, *parts):
    model.compile(keras.optimizers.SGD(0.1))
    data = with_threads(tf.data.Dataset.from_tensors(parts))
    return model.fit(data, verbose=0).history["loss"]


def test_all_weight_on_the_image_is_the_memory_bank(views):
    image, crop = views
    model = make(tile_weight=0.0)
    twin = MemoryBank(backbone(), MLPHead(6, depth=1), **SIZES)
    twin.backbone.set_weights(model.backbone.get_weights())
    twin.projector.set_weights(model.projector.get_weights())
    twin.bank.set_weights(model.bank.get_weights())
    assert fit(model, image, crop, INDEX, np.asarray(KEYS)) == pytest.approx(
        fit(twin, image, image, INDEX), rel=1e-5
    )
    np.testing.assert_allclose(model.bank.embeddings, twin.bank.embeddings, atol=1e-5)


def test_both_losses_are_weighted(views):
    image, crop = map(tf.constant, views)
    model = make(jitter=0.0)

    def loss(weight):
        model.tile_weight = weight
        return float(model.ssl_loss(image, crop, tf.constant(INDEX), KEYS))

    assert loss(0.0) != pytest.approx(loss(1.0), rel=1e-3)
    assert loss(0.25) == pytest.approx(0.75 * loss(0.0) + 0.25 * loss(1.0), rel=1e-5)


def test_the_loss_of_the_tiles_has_the_images_entry_as_positive(views):
    model = make(tile_weight=1.0)
    image, crop = map(tf.constant, views)
    bank, drawn = np.asarray(model.bank.embeddings), np.asarray(model.bank.draw(30))
    tiles = np.asarray(model.shuffled_tiles(crop, KEYS))
    h = model.backbone(tiles.reshape(36, 6, 6, 3), training=True)
    joined = np.asarray(model.tile_projector(h)).reshape(4, 45)
    z = np.asarray(model.joint_projector(joined), "float64")
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    losses = []
    for row, place in enumerate(INDEX):
        positive = np.exp(z[row] @ bank[place] / 0.07)
        others = [np.exp(z[row] @ bank[j] / 0.07) for j in drawn if j != place]
        losses.append(-np.log(positive / (positive + sum(others))))
    loss = model.ssl_loss(image, crop, tf.constant(INDEX), KEYS)
    assert float(loss) == pytest.approx(np.mean(losses), rel=1e-4)


def test_tiles_are_shuffled_and_jittered_each_on_its_own(views):
    crop = tf.constant(views[1])
    plain = make(jitter=0.0)
    cut = np.asarray(plain.tiles.cut(crop, KEYS))
    shuffled = np.asarray(plain.shuffled_tiles(crop, KEYS))
    orders = np.argsort(np.asarray(random.uniform(random.fold(KEYS, 2), 9)), axis=1)
    for image in range(4):
        np.testing.assert_allclose(shuffled[image], cut[image, orders[image]], atol=1e-5)
    colored = np.asarray(make(jitter=1.0).shuffled_tiles(crop, KEYS)).reshape(36, 6, 6, 3)
    layer = ColorJitter(0.8, 0.8, 0.8, 0.2, probability=1)
    numbers = random.uniform(random.fold(KEYS, 3), 81)
    expected = layer.transform(cut.reshape(36, 6, 6, 3), tf.reshape(numbers, (36, 9)))
    places = (9 * np.arange(4)[:, None] + orders).ravel()
    np.testing.assert_allclose(colored, np.asarray(expected)[places], atol=1e-6)


def test_the_policy_has_a_large_crop_to_cut():
    image, crop = pirl(24)
    assert image.layers[0].area == (0.08, 1.0)
    assert crop.layers[0].area == (0.6, 1.0)
    assert [type(layer).__name__ for layer in crop.layers] == ["RandomCrop", "RandomFlip"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tile_weight": 1.5}, r"`tile_weight` must lie in \[0, 1\]\. Received: tile_weight=1.5"),
        ({"bank_momentum": -1}, r"`bank_momentum` must lie in \[0, 1\]"),
        ({"negatives": 0}, "`negatives` must be at least 1"),
        ({"jitter": 2}, r"`jitter` must lie in \[0, 1.25\]"),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)
