"""Rotation: the turns, and what it cannot learn. See tests/contract.py for the rest."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.backbones import Tiny
from keras_ssl.methods import Rotation

SHAPE = (8, 8, 3)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return Rotation(Tiny(SHAPE, features=8))


@pytest.fixture(scope="module")
def view():
    return np.random.default_rng(0).random((3, *SHAPE), np.float32)


def test_each_image_is_turned_in_all_four_ways(model, view):
    turned = np.asarray(model.turn(tf.constant(view)))
    for place, image in enumerate(view):
        for turns in range(4):
            np.testing.assert_array_equal(turned[4 * place + turns], np.rot90(image, turns))


def test_the_loss_is_the_cross_entropy_of_the_turns(model, view):
    turned = np.stack([np.rot90(image, turns) for image in view for turns in range(4)])
    logits = np.asarray(model.classifier(model.backbone(turned, training=True)), "float64")
    classes = np.arange(12) % 4
    log_share = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    model.accuracy.reset_state()
    loss = model.ssl_loss(tf.constant(view))
    assert float(loss) == pytest.approx(-log_share[np.arange(12), classes].mean(), rel=1e-5)
    share = np.mean(logits.argmax(axis=1) == classes)
    assert float(model.accuracy.result()) == pytest.approx(share)


@pytest.mark.parametrize("seed", range(3))
def test_an_image_that_is_its_own_turn_has_at_least_the_loss_of_guessing(seed, view):
    keras.utils.set_random_seed(seed)
    model = Rotation(Tiny(SHAPE, features=8))
    model.classifier.kernel.assign(1000 * model.classifier.kernel)  # far from uniform answers
    symmetric = sum(np.rot90(view, turns, axes=(1, 2)) for turns in range(4)) / 4
    logits = model.classifier(model.backbone(model.turn(tf.constant(symmetric)), training=False))
    loss = model.classification_loss(logits, tf.tile(tf.range(4), [3]))
    assert float(loss) >= np.log(4) - 1e-5
    assert float(loss) > np.log(4) + 0.01  # confident answers cost more than guessing


def test_it_learns_which_side_is_bright():
    ramp = np.broadcast_to(np.linspace(0, 1, 8)[:, None, None], SHAPE)
    images = np.stack([ramp * height for height in np.linspace(0.5, 1, 16)]).astype("float32")
    model = Rotation(Tiny(SHAPE, features=16))
    model.compile(keras.optimizers.Adam(0.01))
    history = model.fit(
        tf.data.Dataset.from_tensors((images,)).repeat(20), epochs=2, steps_per_epoch=10, verbose=0
    ).history
    assert history["accuracy"][-1] > 0.95
    panels = model.panels(images[:2])
    assert [panel.title for panel in panels][1] == "Turned by 90 degrees"
    np.testing.assert_array_equal(panels[3].images[1], np.rot90(images[1], 3))
    assert all(len(panel.captions) == 2 for panel in panels)
    assert all(caption.startswith("predicted ") for panel in panels for caption in panel.captions)


def test_views_that_are_not_square_are_refused():
    model = Rotation(Tiny((8, 6, 3), features=8))
    model.compile("sgd")
    batch = tf.data.Dataset.from_tensors((np.zeros((2, 8, 6, 3), np.float32),))
    with pytest.raises(ValueError, match=r"needs square views.*Received: views of 8 x 6 pixels"):
        model.fit(batch, verbose=0)


def test_two_views_are_refused(model, view):
    model.compile("sgd")
    with pytest.raises(ValueError, match=r"takes exactly 1 view of each image.*Received: 2 views"):
        model.fit(tf.data.Dataset.from_tensors((view, view)), verbose=0)


def test_a_classifier_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"of Rotation must return 4 logits\. Received: 'dense.*3"):
        Rotation(Tiny(SHAPE, features=8), keras.layers.Dense(3))
