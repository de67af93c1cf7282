"""Context encoders: what the encoder sees, what the loss compares, and the adversary."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.augment import random
from keras_ssl.backbones import Tiny
from keras_ssl.data.parallel import with_threads
from keras_ssl.layers import Decoder, Discriminator
from keras_ssl.methods import AdversarialContextEncoder, ContextEncoder
from keras_ssl.methods.context_encoder import cut_out
from keras_ssl.methods.holes import center_hole, random_region

SHAPE = (8, 8, 3)


def keys(count, epoch=0):
    return random.image_keys(0, epoch, np.arange(count), random.METHOD)


def images(count=4, side=8):
    return tf.constant(np.random.default_rng(0).random((count, side, side, 3), np.float32))


def encoder(method=ContextEncoder, **arguments):
    keras.utils.set_random_seed(1)
    backbone = Tiny(SHAPE, features=8)
    decoder = Decoder(SHAPE, filters=4, activation="sigmoid")
    if method is AdversarialContextEncoder:
        arguments = {"discriminator": Discriminator(4), **arguments}
    return method(backbone, decoder, **arguments)


# Holes


@pytest.mark.parametrize("side", [8, 33])
def test_random_holes_cover_20_to_30_percent(side):
    holes = random_region(images(100, side), keys(100)).numpy()
    shares = holes.mean(axis=(1, 2))
    pixel = 1 / side**2
    assert shares.min() >= 0.2 - pixel
    assert shares.max() <= 0.3 + pixel
    assert shares.std() > 0.02  # not all of one size
    # Everywhere equally often, also at the border.
    often = random_region(tf.zeros((3000, 8, 8, 3)), keys(3000)).numpy().mean(axis=0)
    assert np.abs(often - 0.25).max() < 0.06


def test_random_holes_are_connected_regions():
    holes = random_region(images(50, 64), keys(50)).numpy()
    # Most neighbors of a pixel in a hole are in the hole; of single pixels a quarter would be.
    neighbors = (holes[:, 1:] & holes[:, :-1]).sum() / holes[:, 1:].sum()
    assert neighbors > 0.85


def test_holes_depend_on_the_key_only():
    first, again, later = (random_region(images(), keys(4, epoch)) for epoch in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != later)
    assert np.any(first[0] != first[1])


def test_the_center_is_half_of_each_side():
    hole = center_hole(images(), keys(4)).numpy()
    assert hole.sum() == 4 * 16
    assert hole[:, 2:6, 2:6].all()


def test_a_hole_has_the_mean_color_of_the_other_pixels():
    view, hole = images(), random_region(images(), keys(4))
    holed = cut_out(view, hole).numpy()
    for image, result, mask in zip(view.numpy(), holed, hole.numpy(), strict=True):
        np.testing.assert_array_equal(result[~mask], image[~mask])
        mean = image[~mask].mean(axis=0)
        np.testing.assert_allclose(result[mask], np.broadcast_to(mean, result[mask].shape), 1e-5)


# Gradients


@pytest.mark.parametrize("region", ["random", "center"])
def test_the_encoder_sees_nothing_of_the_hole_and_the_loss_nothing_else(region):
    model, view = encoder(region=region), images()
    hole = (random_region if region == "random" else center_hole)(view, keys(4))
    with tf.GradientTape() as tape:
        tape.watch(view)
        features = model.features(cut_out(view, hole))
    gradient = tape.gradient(features, view).numpy()
    assert np.all(gradient[hole] == 0)
    assert np.all(gradient[~hole] != 0)

    target = tf.identity(view)
    with tf.GradientTape() as tape:
        tape.watch(target)
        made = model.reconstruct(cut_out(view, hole))
        loss = model.error(2 * target - 1, 2 * made - 1, hole)
    gradient = tape.gradient(loss, target).numpy()
    assert np.all(gradient[~hole] == 0)
    assert np.all(gradient[hole] != 0)
    assert float(loss) == pytest.approx(float(model.ssl_loss(view, keys(4))), rel=1e-5)


def test_the_error_has_pixels_between_minus_one_and_one():
    model, view = encoder(), tf.zeros((4, *SHAPE))
    hole = random_region(view, keys(4)).numpy()
    made = model.reconstruct(view).numpy()
    expected = np.mean([np.mean((2 * m[k]) ** 2) for m, k in zip(made, hole, strict=True)])
    assert float(model.ssl_loss(view, keys(4))) == pytest.approx(expected, rel=1e-4)


def test_neither_adversary_has_a_gradient_of_the_others_loss():
    model, view = encoder(AdversarialContextEncoder), images()
    made = model.reconstruct(view)
    makers = [*model.backbone.trainable_weights, *model.decoder.trainable_weights]
    judges = model.discriminator.trainable_weights
    with tf.GradientTape(persistent=True) as tape:
        made = model.reconstruct(view)
        deception, judgement = model.deception_loss(made), model.discriminator_loss(view, made)
    values = [[v.value for v in side] for side in (makers, judges)]
    assert all(g is None for g in tape.gradient(deception, values[1]))
    assert all(g is None for g in tape.gradient(judgement, values[0]))
    assert any(np.any(g != 0) for g in tape.gradient(deception, values[0]))
    assert all(np.any(g != 0) for g in tape.gradient(judgement, values[1]))


def test_the_deception_is_the_reverse_of_the_judgement():
    model, view = encoder(AdversarialContextEncoder), images()
    logits = model.discriminator(view, training=True).numpy()
    deception = np.mean(np.log1p(np.exp(-logits)))
    assert float(model.deception_loss(view)) == pytest.approx(deception, rel=1e-5)
    both = deception + np.mean(np.log1p(np.exp(logits)))
    assert float(model.discriminator_loss(view, view)) == pytest.approx(both, rel=1e-5)


def test_deceiving_does_not_move_the_batch_statistics_of_the_discriminator():
    model, view = encoder(AdversarialContextEncoder, discriminator=Discriminator(4)), images()
    before = [np.array(v) for v in model.discriminator.non_trainable_weights]
    model.deception_loss(view)
    for variable, value in zip(model.discriminator.non_trainable_weights, before, strict=True):
        np.testing.assert_array_equal(variable, value)


# Training


def trained(method, **arguments):
    model = encoder(method, **arguments)
    model.compile(keras.optimizers.SGD(0.1))
    data = with_threads(tf.data.Dataset.from_tensors((images(), keys(4))).repeat(3))
    return model, model.fit(data, verbose=0).history


def test_without_weight_the_adversary_changes_nothing():
    plain, logs = trained(ContextEncoder)
    model, both = trained(AdversarialContextEncoder, adversarial_weight=0.0)
    for name in ("backbone", "decoder"):
        pairs = zip(getattr(plain, name).weights, getattr(model, name).weights, strict=True)
        for own, other in pairs:
            np.testing.assert_allclose(own, other, atol=1e-6)
    assert both["error"][0] == pytest.approx(logs["loss"][0], rel=1e-5)
    assert 0 <= both["discriminator"][0] <= 1
    _, weighted = trained(AdversarialContextEncoder, adversarial_weight=0.9)
    assert weighted["error"][0] != pytest.approx(logs["loss"][0], rel=1e-3)


def test_panels_show_the_hole_and_its_filling():
    model, view = encoder(region="center"), images()
    panels = model.panels(view, keys(4))
    assert [panel.title for panel in panels] == ["View", "With a hole", "Filled"]
    hole = center_hole(view, keys(4)).numpy()
    np.testing.assert_array_equal(panels[2].images[~hole], view.numpy()[~hole])
    made = model.reconstruct(cut_out(view, hole), training=False).numpy()
    np.testing.assert_allclose(panels[2].images[hole], made[hole], atol=1e-6)


def test_refuses_wrong_arguments():
    with pytest.raises(ValueError, match=r"one of random, center\. Received: region='left'"):
        encoder(region="left")
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]\. Received: adversarial_weight=2"):
        encoder(AdversarialContextEncoder, adversarial_weight=2)
