"""SplitBrain: both losses and their gradients. See tests/contract.py for the rest."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.backbones import Tiny, two_streams
from keras_ssl.layers import ColorBins, MapHead, RGBToLab
from keras_ssl.methods import SplitBrain

SHAPE = (16, 16, 3)


def views(count=4, seed=0):
    return tf.constant(np.random.default_rng(seed).random((count, *SHAPE), np.float32))


def split_brain(**arguments):
    keras.utils.set_random_seed(1)
    networks = [Tiny((16, 16, channels), features=16) for channels in (1, 2)]
    return SplitBrain(two_streams(*networks), MapHead(262, 8), MapHead(50, 8), **arguments)


@pytest.fixture(scope="module")
def model():
    return split_brain()


def cross_entropy(logits, classes):
    logits = np.asarray(logits, np.float64)
    chosen = np.take_along_axis(logits, np.asarray(classes)[..., None], axis=-1)[..., 0]
    return np.mean(np.log(np.exp(logits).sum(axis=-1)) - chosen)


def test_the_loss_equals_its_definition(model):
    view = views()
    lab = RGBToLab()(view).numpy()[:, 2::4, 2::4]
    distances = np.linalg.norm(lab[..., None, 1:] - ColorBins().centers, axis=-1)
    colors, lightness = distances.argmin(axis=-1), (lab[..., 0] // 2).astype(int)
    logits = model.predict_colors(view), model.predict_lightness(view)
    assert logits[0].shape == (4, 4, 4, 262)
    assert logits[1].shape == (4, 4, 4, 50)
    expected = cross_entropy(logits[0], colors) / np.log(262)
    expected += cross_entropy(logits[1], lightness) / np.log(50)
    for metric in (model.color_accuracy, model.lightness_accuracy):
        metric.reset_state()
    assert float(model.ssl_loss(view)) == pytest.approx(expected, rel=1e-5)
    correct = np.argmax(logits[0], axis=-1) == colors
    assert float(model.color_accuracy.result()) == pytest.approx(correct.mean())
    correct = np.argmax(logits[1], axis=-1) == lightness
    assert float(model.lightness_accuracy.result()) == pytest.approx(correct.mean())


def test_black_and_white_are_in_the_first_and_last_interval(model):
    view = tf.constant(np.repeat([0.0, 1.0], 256 * 3).reshape(2, *SHAPE).astype("float32"))
    _, lightness = model.classes(view)
    assert lightness.numpy()[0].max() == 0
    assert lightness.numpy()[1].min() == 49


def test_each_loss_trains_its_own_network_only(model):
    view = views()
    colors, lightness = model.classes(view)
    own = {
        stream: [v for v in model.backbone.trainable_weights if v.path.startswith(stream)]
        for stream in ("lightness", "color")
    }
    assert sum(map(len, own.values())) == len(model.backbone.trainable_weights)
    cases = {
        "lightness": (model.predict_colors, colors, model.color_accuracy),
        "color": (model.predict_lightness, lightness, model.lightness_accuracy),
    }
    for stream, (predict, classes, accuracy) in cases.items():
        with tf.GradientTape() as tape:
            loss = model.classification_loss(predict(view), classes, accuracy)
        other = "color" if stream == "lightness" else "lightness"
        sources = [[v.value for v in own[name]] for name in (stream, other)]
        mine, theirs = tape.gradient(loss, sources)
        assert all(float(tf.reduce_max(tf.abs(gradient))) > 0 for gradient in mine)
        assert all(gradient is None for gradient in theirs)


def test_noise_of_other_channels_cannot_be_predicted(model):
    # In images of noise, the lightness says nothing about the interval of another pixel's color; the
    # solid gray of many images says nothing about their lightness.
    levels = np.linspace(0.02, 0.98, 64, dtype=np.float32)
    gray = tf.constant(np.tile(levels[:, None, None, None], (1, *SHAPE)))
    _, lightness = model.classes(gray)
    shares = np.bincount(lightness.numpy()[:, 0, 0], minlength=50) / 64
    entropy = -np.sum(shares[shares > 0] * np.log(shares[shares > 0]))
    assert entropy > 3.5
    logits = model.predict_lightness(gray, training=False)
    assert cross_entropy(logits, lightness) >= entropy - 1e-5


def test_the_pictures_show_both_predictions(model):
    view = views()
    colors, lightness = model.classes(view)
    known = split_brain()
    known.predict_colors = lambda view, training: 100 * tf.one_hot(colors, 262)
    known.predict_lightness = lambda view, training: 100 * tf.one_hot(lightness, 50)
    image, colored, gray = known.panels(view)
    np.testing.assert_allclose(image.images, view)
    assert colored.images.shape == (4, *SHAPE)
    assert gray.images.shape == (4, 16, 16, 1)
    # The centers of 4 x 4 enlarged pixels are at other places than the sampled pixels: compare means.
    truth = RGBToLab()(view).numpy()[:, 2::4, 2::4, 0].mean(axis=(1, 2)) / 100
    np.testing.assert_allclose(gray.images.mean(axis=(1, 2, 3)), truth, atol=0.02)


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(ValueError, match=r"two_streams\(lightness, color\).*Received: 'tiny'"):
        SplitBrain(Tiny(SHAPE))
    with pytest.raises(ValueError, match=r"`lightness_bins` must be at least 2\. Received:.*=1"):
        split_brain(lightness_bins=1)
    with pytest.raises(ValueError, match=r"`lightness_head` must return 20 logits.*returns 50"):
        split_brain(lightness_bins=20)
    with pytest.raises(ValueError, match="SplitBrain needs views in color"):
        split_brain().ssl_loss(tf.zeros((4, 16, 16, 1)))
