"""Colour jitter against `tf.image`, one image and one change at a time."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from keras_ssl.augment import ColorJitter, RandomGrayscale
from keras_ssl.augment.random import uniform

ORDERS = list(itertools.permutations(range(4)))
PAPER = (0.8, 0.8, 0.8, 0.2)
CHANGES = (
    lambda image, factor: image * factor,
    tf.image.adjust_contrast,
    tf.image.adjust_saturation,
    tf.image.adjust_hue,
)


def numbers_for(order, strengths=(0.3, 0.9, 0.8, 0.1)):
    """The nine numbers for these strengths (as fractions of their range) in this order."""
    ranks = np.argsort(order) / 4  # the first change has the smallest sort key
    return np.array([0.0, *strengths, *ranks], np.float32)


def twin(image, strengths, order):
    """Applies the four changes to one image, and clips after each."""
    for change in order:
        image = np.clip(CHANGES[change](image, strengths[change]), 0, 1)
    return image


@pytest.mark.parametrize("order", ORDERS)
def test_each_order_equals_tensorflows_changes(noise, order):
    images = noise(3, 8, 8)
    numbers = np.tile(numbers_for(order), (3, 1))
    jitter = ColorJitter(*PAPER)
    _, strengths, found_order = jitter.parameters(tf.constant(numbers))
    np.testing.assert_array_equal(found_order[0], order)
    found = jitter.transform(tf.constant(images), tf.constant(numbers))
    expected = np.stack([twin(image, strengths[0].numpy(), order) for image in images])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_orders_and_clips_matter(noise):
    """Otherwise the test above could not fail."""
    images, strengths = noise(1, 8, 8), (1.7, 1.5, 1.6, 0.15)
    results = {order: twin(images[0], strengths, order) for order in ORDERS}
    for first, second in itertools.combinations(ORDERS, 2):
        # Saturation and hue may be swapped where they are neighbours, and hue with brightness.
        if [c for c in first if c < 3] != [c for c in second if c < 3]:
            assert np.abs(results[first] - results[second]).max() > 1e-3
    unclipped = images[0]
    for change in range(4):
        unclipped = CHANGES[change](unclipped, strengths[change])
    assert np.abs(np.clip(unclipped, 0, 1) - results[ORDERS[0]]).max() > 1e-2


def test_images_of_a_batch_have_different_orders_and_strengths(noise):
    images = noise(6, 8, 8)
    orders = ORDERS[::4]
    shares = np.random.default_rng(1).random((6, 4))
    numbers = np.stack(list(map(numbers_for, orders, shares)))
    jitter = ColorJitter(*PAPER)
    _, strengths, _ = jitter.parameters(tf.constant(numbers))
    found = jitter.transform(tf.constant(images), tf.constant(numbers))
    for image, changed, strength, order in zip(
        images, found, strengths.numpy(), orders, strict=True
    ):
        np.testing.assert_allclose(changed, twin(image, strength, order), atol=1e-5)


def test_all_orders_are_equally_frequent(keys):
    jitter = ColorJitter(*PAPER)
    order = jitter.parameters(uniform(keys(24_000), jitter.draws))[2].numpy()
    counts = np.unique(order, axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_strengths_are_uniform_in_the_papers_ranges(keys, strength):
    jitter = ColorJitter(*(strength * value for value in PAPER))
    change, strengths, order = jitter.parameters(uniform(keys(10_000), jitter.draws))
    half = 0.8 * strength
    for column, (low, high) in zip(
        strengths.numpy().T, [(1 - half, 1 + half)] * 3 + [(-0.2 * strength, 0.2 * strength)],
        strict=True,
    ):  # fmt: skip
        assert stats.kstest(column, "uniform", args=(low, high - low)).pvalue > 1e-3
    assert change.numpy().mean() == pytest.approx(0.8, abs=4 * 0.4 / 100)
    # All of them are independent.
    everything = np.column_stack([change, strengths, order[:, 0]]).astype(float)
    correlations = np.corrcoef(everything.T) - np.eye(6)
    assert np.abs(correlations).max() < 4.5 / np.sqrt(10_000)


def test_factors_of_strong_jitter_stop_at_zero(keys):
    jitter = ColorJitter(1.6, 1.6, 1.6, 0.5)
    strengths = jitter.parameters(uniform(keys(5000), jitter.draws))[1].numpy()
    for column in strengths.T[:3]:
        assert stats.kstest(column, "uniform", args=(0, 2.6)).pvalue > 1e-3


def test_a_fifth_is_not_changed(noise, keys):
    images = np.repeat(noise(1, 4, 4), 5000, axis=0)
    changed = ColorJitter(*PAPER)(images, keys=keys(5000)).numpy()
    same = (changed == images).all(axis=(1, 2, 3))
    assert same.mean() == pytest.approx(0.2, abs=4 * 0.4 / np.sqrt(5000))


def test_strength_zero_changes_nothing(noise, keys):
    changed = ColorJitter(0, 0, 0, 0, probability=1.0)(noise(), keys=keys(6))
    np.testing.assert_allclose(changed, noise(), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_channels_get_brightness_and_contrast_only(noise, channels):
    images = noise(2, 8, 8, channels)
    jitter = ColorJitter(*PAPER)
    for order in ((0, 1, 2, 3), (3, 1, 2, 0)):
        numbers = tf.constant(np.tile(numbers_for(order), (2, 1)))
        strengths = jitter.parameters(numbers)[1][0].numpy()
        expected = np.stack(
            [twin(image, strengths, [c for c in order if c < 2]) for image in images]
        )
        np.testing.assert_allclose(jitter.transform(images, numbers), expected, atol=1e-5)


def test_stays_in_range(noise, keys):
    changed = ColorJitter(*PAPER, probability=1.0)(noise(200), keys=keys(200)).numpy()
    assert changed.min() >= 0
    assert changed.max() <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 0, 0, 0), "`brightness` must not be negative. Received: brightness=-1"),
        ((0, -1, 0, 0), "`contrast` must not be negative"),
        ((0, 0, -1, 0), "`saturation` must not be negative"),
        ((0, 0, 0, 0.6), r"`hue` must lie in \[0, 0.5\]. Received: hue=0.6"),
        ((0, 0, 0, -0.1), "`hue` must lie"),
        ((0, 0, 0, 0, 1.1), r"`probability` must lie in \[0, 1\]"),
    ],
)
def test_rejects_bad_strengths(arguments, message):
    with pytest.raises(ValueError, match=message):
        ColorJitter(*arguments)


def test_grey_is_tensorflows(noise, keys):
    found = RandomGrayscale(probability=1.0)(noise(), keys=keys(6))
    assert found.shape == (6, 16, 16, 3)
    expected = np.repeat(tf.image.rgb_to_grayscale(noise()), 3, axis=-1)
    np.testing.assert_array_equal(found, expected)


def test_a_fifth_becomes_grey(noise, keys):
    images = np.repeat(noise(1, 2, 2), 10_000, axis=0)
    found = RandomGrayscale()(images, keys=keys(10_000)).numpy()
    grey = (found[..., :1] == found).all(axis=(1, 2, 3))
    assert grey.mean() == pytest.approx(0.2, abs=4 * 0.4 / 100)
    np.testing.assert_array_equal(found[~grey], images[~grey])


@pytest.mark.parametrize("channels", [1, 4])
def test_no_colour_to_remove(noise, keys, channels):
    images = noise(4, 4, 4, channels)
    found = RandomGrayscale(probability=1.0)(images, keys=keys(4))
    np.testing.assert_array_equal(found, images)
