"""CMC: the loss of lightness against color. See tests/contract.py for the rest."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.backbones import Tiny, two_streams
from keras_ssl.layers import LabToRGB, MLPHead
from keras_ssl.methods import CMC

SHAPE = (16, 16, 3)


def views(count=6, seed=0):
    return tf.constant(np.random.default_rng(seed).random((count, *SHAPE), np.float32))


def cmc(dims=(8, 8), **arguments):
    keras.utils.set_random_seed(1)
    backbone = two_streams(Tiny((16, 16, 1), features=16), Tiny((16, 16, 2), features=24))
    heads = [MLPHead(dim, depth=1) for dim in dims]
    return CMC(backbone, *heads, **arguments)


def unit(vectors):
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_the_loss_equals_its_definition():
    model, view = cmc(temperature=0.2), views()
    h = model.backbone(view, training=True).numpy()
    z_lightness = unit(model.lightness_head(h[:, :16]))
    z_color = unit(model.color_head(h[:, 16:]))
    scores = z_lightness @ z_color.T / 0.2
    rows = np.log(np.exp(scores).sum(axis=1)) - np.diag(scores)
    columns = np.log(np.exp(scores).sum(axis=0)) - np.diag(scores)
    expected = (rows.mean() + columns.mean()) / 2
    assert float(model.ssl_loss(view)) == pytest.approx(expected, rel=1e-5)
    right = [scores.argmax(axis=axis) == np.arange(6) for axis in (0, 1)]
    assert float(model.accuracy.result()) == pytest.approx(np.mean(right))


def test_images_of_equal_lightness_cannot_be_told_apart():
    # The lightness of all images is the same, so the best guess is one of six.
    generator = np.random.default_rng(0)
    light = np.tile(generator.uniform(40, 60, (1, 16, 16, 1)), (6, 1, 1, 1))
    ab = np.tile(generator.uniform(-10, 10, (6, 1, 1, 2)), (1, 16, 16, 1))
    view = LabToRGB()(np.concatenate([light, ab], axis=-1).astype(np.float32))
    for seed in range(3):
        model = cmc()
        for weight in model.trainable_weights:
            noise = np.random.default_rng(seed).normal(scale=0.5, size=weight.shape)
            weight.assign(noise)
        z_lightness, z_color = model.embed(view, training=False)
        loss = model.contrast(z_lightness, z_color)
        assert float(loss) >= np.log(6) - 1e-3
        assert float(model.contrast(z_color, z_lightness)) == pytest.approx(np.log(6), abs=1e-3)


def test_the_pictures_show_the_nearest_color():
    model, view = cmc(), views()
    image, lightness, color, nearest = model.panels(view)
    np.testing.assert_array_equal(image.images, view)
    assert np.ptp(lightness.images, axis=-1).max() < 1e-3
    z_lightness, z_color = model.embed(view, training=False)
    order = np.argmax(z_lightness.numpy() @ z_color.numpy().T, axis=1)
    np.testing.assert_array_equal(nearest.images, color.images[order])
    assert nearest.captions == ["own" if i == own else "other" for own, i in enumerate(order)]


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(ValueError, match=r"two_streams\(lightness, color\).*Received: 'tiny'"):
        CMC(Tiny(SHAPE))
    with pytest.raises(ValueError, match=r"same size.*8 numbers of `lightness_head`, 4 of"):
        cmc((8, 4))
    with pytest.raises(ValueError, match=r"`temperature` must be positive\. Received.*=0"):
        cmc(temperature=0)
    with pytest.raises(ValueError, match="CMC needs views in color"):
        cmc().ssl_loss(tf.zeros((4, 16, 16, 1)))
