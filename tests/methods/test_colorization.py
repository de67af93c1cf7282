"""Colorization: weights of colors, the loss, gray images. See tests/contract.py for the rest."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.backbones import Tiny, ViT, of_lightness
from keras_ssl.layers import ColorBins, LabToRGB, MapHead, RGBToLab
from keras_ssl.methods import Colorization
from keras_ssl.methods.colorization import color_weights

SHAPE = (16, 16, 3)


def views(count=4, seed=0):
    return tf.constant(np.random.default_rng(seed).random((count, *SHAPE), np.float32))


def prior(seed=0):
    shares = np.random.default_rng(seed).dirichlet(np.full(262, 0.1))
    return tuple(shares)


def colorization(**arguments):
    keras.utils.set_random_seed(1)
    backbone = of_lightness(Tiny((16, 16, 1), features=16))
    return Colorization(backbone, MapHead(262, 8), **arguments)


def solid(lab):
    """Returns images (count, 16, 16, 3) of one color each, of Lab values (count, 3)."""
    rgb = LabToRGB()(np.asarray(lab, np.float32)).numpy()
    return tf.constant(np.tile(rgb[:, None, None], (1, 16, 16, 1)))


def test_equal_shares_give_equal_weights():
    np.testing.assert_allclose(color_weights(None, 0.5, 262), 1, rtol=1e-6)
    np.testing.assert_allclose(color_weights(prior(), 1.0, 262), 1, rtol=1e-6)


def test_rare_colors_weigh_more_and_the_mean_weight_is_one():
    shares = np.array(prior())
    weights = color_weights(shares, 0.5, 262)
    assert shares @ weights == pytest.approx(1, rel=1e-5)
    order = np.argsort(shares)
    assert np.all(np.diff(weights[order]) <= 0)
    first, last = order[0], order[-1]
    mixed = 0.5 * shares + 0.5 / 262
    assert weights[first] / weights[last] == pytest.approx(mixed[last] / mixed[first], rel=1e-4)


@pytest.mark.parametrize("shares", [None, prior()])
def test_the_loss_equals_its_definition(shares):
    model, view = colorization(prior=shares), views()
    logits = model.predict_colors(view).numpy().astype("float64")
    assert logits.shape == (4, 4, 4, 262)
    ab = RGBToLab()(view).numpy()[:, 2::4, 2::4, 1:]
    codes = ColorBins()(ab).numpy()
    weights = color_weights(shares, 0.5, 262)
    log_shares = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    losses = -(codes * log_shares).sum(axis=-1) * weights[codes.argmax(axis=-1)]
    assert float(model.ssl_loss(view)) == pytest.approx(losses.mean(), rel=1e-4)
    correct = codes.argmax(axis=-1) == logits.argmax(axis=-1)
    assert float(model.accuracy.result()) == pytest.approx(correct.mean())


def test_gray_images_have_no_gradient_and_no_accuracy():
    model = colorization(prior=prior())
    gray = tf.repeat(views()[..., :1], 3, axis=-1)
    with tf.GradientTape() as tape:
        loss = model.ssl_loss(gray)
    gradients = tape.gradient(loss, [v.value for v in model.trainable_weights])
    assert float(loss) == 0
    assert max(float(tf.reduce_max(tf.abs(gradient))) for gradient in gradients) == 0
    assert float(model.accuracy.count) == 0


def test_a_gray_image_does_not_change_the_loss_of_the_others():
    model, view = colorization(), views()
    logits = model.predict_colors(view, training=False)
    model.predict_colors = lambda view: logits
    together = float(model.ssl_loss(view))
    gray = tf.concat([tf.repeat(view[:1, ..., :1], 3, axis=-1), view[1:]], axis=0)
    model.ssl_loss(view)
    rest = keras.losses.CategoricalCrossentropy(from_logits=True)(
        ColorBins()(RGBToLab()(view)[1:, 2::4, 2::4, 1:]), logits[1:]
    )
    assert float(model.ssl_loss(gray)) == pytest.approx(float(rest) * 3 / 4, rel=1e-5)
    assert together > float(model.ssl_loss(gray))


def test_colors_that_the_lightness_does_not_tell_cannot_be_predicted():
    # Eight colors of one lightness, whose codes share no bin.
    lab = [(65, a, b) for a in (-30, 5, 40) for b in (-25, 10, 45)][1:]
    view = solid(lab)
    np.testing.assert_allclose(RGBToLab()(view)[..., 0], 65, atol=1e-3)
    model = colorization()
    for seed in range(3):
        for weight in model.trainable_weights:
            generator = np.random.default_rng(seed)
            weight.assign(generator.normal(scale=0.5, size=weight.shape))
        logits = model.predict_colors(view, training=False)
        codes = ColorBins()(RGBToLab()(view)[:, 2::4, 2::4, 1:])
        losses = keras.losses.categorical_crossentropy(codes, logits, from_logits=True)
        assert float(tf.reduce_mean(losses)) >= np.log(8)


def test_the_likely_colors_are_drawn():
    model, view = colorization(), solid([(60, 40, 30), (50, -20, 20)])
    codes = ColorBins()(RGBToLab()(view)[:, 2::4, 2::4, 1:])
    model.predict_colors = lambda view, training: tf.math.log(codes + 1e-9)
    image, gray, predicted, binned = model.panels(view)
    np.testing.assert_allclose(image.images, view, atol=1e-6)
    assert np.abs(np.ptp(gray.images, axis=-1)).max() < 1e-3
    np.testing.assert_allclose(predicted.images, view, atol=0.05)
    np.testing.assert_allclose(binned.images, view, atol=0.08)
    assert list(predicted.captions) == ["0 off in a and b"] * 2


@pytest.mark.large
def test_it_learns_colors_that_follow_from_the_lightness():
    model = colorization()
    light = np.repeat([[30, 60, -40], [75, -40, 50]], 4, axis=0)
    view = solid(light)
    model.compile(keras.optimizers.Adam(0.01))
    data = tf.data.Dataset.from_tensors((view,)).repeat(60)
    history = model.fit(data, epochs=2, verbose=0).history
    assert history["accuracy"][-1] > 0.95
    painted = model.panels(view)[2].images
    assert np.abs(painted[:, 4:12, 4:12] - view[:, 4:12, 4:12]).mean() < 0.15


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(ValueError, match=r"must see the lightness only.*of_lightness.*'tiny'"):
        Colorization(Tiny(SHAPE))
    gray = of_lightness(ViT(patch=4, dim=16, depth=1, heads=2, input_shape=(16, 16, 1)))
    with pytest.raises(ValueError, match="functional model that pools feature maps"):
        Colorization(gray)
    with pytest.raises(ValueError, match=r"`head` must return 262 logits.*which returns 313"):
        Colorization(of_lightness(Tiny((16, 16, 1))), MapHead(313))
    with pytest.raises(ValueError, match=r"`prior` must be 262 numbers.*shape \(313,\)"):
        colorization(prior=[1 / 313] * 313)
    with pytest.raises(ValueError, match=r"`prior` must be 262 numbers.*sum 2"):
        colorization(prior=[2 / 262] * 262)
    for uniform in (0, 1.5):
        with pytest.raises(ValueError, match=rf"`uniform` must lie in \(0, 1\].*{uniform}"):
            colorization(uniform=uniform)
    with pytest.raises(ValueError, match=r"Colorization needs views in color.*\(2, 2, 3\)"):
        colorization().ssl_loss(tf.zeros((4, 2, 2, 3)))
