"""VideoColorization: what is copied from where, and what cannot be. See also tests/contract.py."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.backbones import Tiny, of_lightness
from keras_ssl.layers import LabToRGB, RGBToLab
from keras_ssl.methods import VideoColorization
from keras_ssl.methods.map_targets import cell_means

SIDE, MAP = 16, 4
ANGLES = 2 * np.pi * np.arange(16) / 16
COLORS = 25 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)  # of lightness 65, all in sRGB


def model(colors=COLORS, **arguments):
    keras.utils.set_random_seed(1)
    backbone = of_lightness(Tiny((SIDE, SIDE, 1), features=16))
    return VideoColorization(backbone, colors, **arguments)


@pytest.fixture(scope="module")
def shared():
    return model()


def frames(count=3, seed=0):
    generator = np.random.default_rng(seed)
    return [tf.constant(generator.random((count, SIDE, SIDE, 3), np.float32)) for _ in range(4)]


def painted(places, lightness=65.0):
    """Returns frames whose places have given colors, of (count, 4, 4) numbers of `COLORS`."""
    ab = COLORS[np.asarray(places)].repeat(SIDE // MAP, 1).repeat(SIDE // MAP, 2)
    lab = np.concatenate([np.full((*ab.shape[:3], 1), lightness), ab], axis=-1)
    return LabToRGB()(lab.astype(np.float32))


def with_features(found, features):
    """Lets a model see features, (clips, frames, 4, 4, dim), instead of those of its networks."""
    flat = tf.constant(features.reshape(-1, MAP, MAP, features.shape[-1]), tf.float32)
    found.feature_maps = lambda images, block, training: flat
    found.head = lambda maps, training: maps
    return found


def test_the_loss_equals_its_definition(shared):
    views = frames()
    joined = tf.reshape(tf.stack(views, axis=1), (-1, SIDE, SIDE, 3))
    maps = shared.head(shared.feature_maps(joined, "block3")).numpy().astype("float64")
    f = maps.reshape(3, 4, MAP * MAP, 64)
    cells = [RGBToLab()(v).numpy()[..., 1:].reshape(3, MAP, 4, MAP, 4, 2) for v in views]
    ab = np.stack([cell.mean(axis=(2, 4)).reshape(3, -1, 2) for cell in cells], axis=1)
    bins = ((ab[..., None, :] - COLORS) ** 2).sum(-1).argmin(-1)
    losses, right = [], []
    for clip in range(3):
        references, colors = f[clip, :3].reshape(-1, 64), bins[clip, :3].reshape(-1)
        for place in range(MAP * MAP):
            scores = references @ f[clip, 3, place]
            weights = np.exp(scores - scores.max())
            weights /= weights.sum()
            copied = np.bincount(colors, weights, minlength=16)
            losses.append(-np.log(max(copied[bins[clip, 3, place]], 1e-7)))
            right.append(copied.argmax() == bins[clip, 3, place])
    shared.reset_metrics()
    assert float(shared.ssl_loss(*views)) == pytest.approx(np.mean(losses), rel=1e-4)
    assert float(shared.accuracy.result()) == pytest.approx(np.mean(right))
    still = np.mean(bins[:, 2] == bins[:, 3])
    assert float(shared.still_accuracy.result()) == pytest.approx(still)


@pytest.mark.parametrize("reference", [0, 1, 2])
def test_a_target_that_equals_a_reference_is_copied_from_it(reference):
    views, found, places = frames(), model(), MAP * MAP
    views[3] = views[reference]
    # A place may be more similar to a longer feature elsewhere: with features of one length, not.
    features = found.head(found.feature_maps(tf.concat(views, 0), "block3", training=False))
    f = tf.math.l2_normalize(tf.reshape(features, (4, 3, places, -1)), axis=-1)
    found = with_features(found, np.swapaxes(f.numpy(), 0, 1).reshape(3, 4, MAP, MAP, -1))
    copy = found.compare(views, 1e-6, training=False).numpy()
    copy = copy[:, :, reference * places : (reference + 1) * places]
    np.testing.assert_allclose(copy, np.tile(np.eye(places), (3, 1, 1)), atol=1e-3)
    colors = found.copy_colors(*views, temperature=1e-6).numpy()
    expected = found.place_colors(views[reference]).numpy().reshape(3, MAP, MAP, 2)
    np.testing.assert_allclose(colors, expected, atol=0.05)


def test_a_known_shift_is_found():
    generator = np.random.default_rng(0)
    places = generator.integers(0, 16, (2, MAP, MAP))
    views = [painted(np.roll(places, number, axis=2)) for number in range(4)]
    identity = np.eye(MAP * MAP).reshape(MAP, MAP, -1)
    features = [[50 * np.roll(identity, n, axis=1) for n in range(4)] for _ in range(2)]
    found = with_features(model(), np.array(features))
    assert float(found.ssl_loss(*views)) < 1e-3
    assert float(found.accuracy.result()) == 1
    assert float(found.still_accuracy.result()) < 0.3
    copied = found.copy_colors(*views).numpy()
    np.testing.assert_allclose(copied, COLORS[np.roll(places, 3, axis=2)], atol=0.2)
    last, gray, panel, target = found.panels(*views)
    # The colors are enlarged bilinearly.
    assert (
        np.abs(panel.images - target.images).mean()
        < 0.5 * np.abs(last.images - target.images).mean()
    )
    assert np.abs(np.ptp(gray.images, axis=-1)).max() < 1e-3
    np.testing.assert_allclose(last.images, views[2], atol=1e-6)
    assert all(text.startswith("100% of the places right, ") for text in panel.captions)


def test_colors_that_the_lightness_does_not_tell_cannot_be_copied():
    """All frames have one lightness: a target may have any color, and features cannot say which."""
    generator = np.random.default_rng(0)
    references = [
        np.tile(generator.permutation(16).reshape(1, MAP, MAP), (16, 1, 1)) for _ in range(3)
    ]
    targets = np.arange(16)[:, None, None] * np.ones((1, MAP, MAP), int)  # one clip of each color
    views = [painted(places) for places in (*references, targets)]
    np.testing.assert_allclose(RGBToLab()(tf.concat(views, 0))[..., 0], 65, atol=1e-3)
    found = model()
    bins = found.nearest_colors(found.place_colors(views[3])).numpy()
    np.testing.assert_array_equal(bins, targets.reshape(16, -1))
    for seed in range(3):
        for weight in found.trainable_weights:
            noise = np.random.default_rng(seed).normal(scale=0.3, size=weight.shape)
            weight.assign(noise)
        weights = found.compare(views, 1.0, training=False)
        reference_bins = [found.nearest_colors(found.place_colors(view)) for view in views[:3]]
        copied = weights @ tf.one_hot(tf.concat(reference_bins, axis=1), 16)
        losses = keras.losses.sparse_categorical_crossentropy(bins, copied)
        assert float(tf.reduce_mean(losses)) >= np.log(16) - 1e-4


def test_gray_clips_teach_nothing():
    shared = model(np.concatenate([[[0, 0]], COLORS]))
    gray = [tf.repeat(frame[..., :1], 3, axis=-1) for frame in frames()]
    with tf.GradientTape() as tape:
        loss = shared.ssl_loss(*gray)
    gradients = tape.gradient(loss, [v.value for v in shared.trainable_weights])
    assert float(loss) == pytest.approx(0, abs=1e-5)
    assert max(float(tf.reduce_max(tf.abs(g))) for g in gradients if g is not None) < 1e-5


def test_the_colors_of_no_frame_are_seen(shared):
    views = frames()
    lab = RGBToLab()(tf.concat(views, 0)).numpy()
    gray = LabToRGB()(lab * (1, 0, 0)).numpy().reshape(4, *views[0].shape)
    seen = shared.compare(views, 1.0, training=False)
    np.testing.assert_allclose(
        shared.compare([tf.constant(each) for each in gray], 1.0, training=False), seen, atol=2e-3
    )


@pytest.mark.parametrize(("pixels", "cells"), [(16, 4), (10, 4), (7, 7), (9, 2)])
def test_cells_have_the_means_of_their_pixels(pixels, cells):
    image = np.random.default_rng(0).random((2, pixels, pixels, 2), np.float32)
    found = cell_means(tf.constant(image), cells, cells).numpy()
    fine = image.repeat(cells, 1).repeat(cells, 2)  # each pixel is cells x cells equal ones
    expected = fine.reshape(2, cells, pixels, cells, pixels, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.large
def test_it_learns_to_follow_what_moves():
    generator = np.random.default_rng(0)
    pictures = generator.random((16, 8, 8, 3)).repeat(8, 1).repeat(8, 2).astype(np.float32)
    views = [tf.constant(np.roll(pictures, 4 * n, axis=2)[:, :SIDE, :SIDE]) for n in range(4)]
    found = model()
    found.compile(keras.optimizers.Adam(0.003))
    data = tf.data.Dataset.from_tensors(tuple(views)).repeat(100)
    history = found.fit(data, epochs=2, verbose=0).history
    assert history["accuracy"][-1] > history["still_accuracy"][-1] + 0.2


def test_what_cannot_be_trained_is_refused(shared):
    with pytest.raises(ValueError, match=r"must see the lightness only.*of_lightness.*'tiny'"):
        VideoColorization(Tiny((SIDE, SIDE, 3)), COLORS)
    for colors in (COLORS[:1], COLORS.T, [1.0, 2.0]):
        with pytest.raises(ValueError, match=r"`colors` must be at least 2 centers.*shape"):
            model(colors)
    with pytest.raises(ValueError, match="`colors` must be finite"):
        model(COLORS * np.nan)
    with pytest.raises(ValueError, match=r"`temperature` must be positive.*temperature=0"):
        model(temperature=0)
    with pytest.raises(ValueError, match="needs frames in color and of one size"):
        shared.ssl_loss(*[tf.zeros((2, SIDE, SIDE, 1))] * 4)
    views = tf.data.Dataset.from_tensors(tuple(frames()[:2]))
    shared.compile("adam")
    with pytest.raises(
        ValueError,
        match=r"\(view_1, view_2, view_3, view_4\).*keras_ssl\.data\.views\(\.\.\., clips=True\)",
    ):
        shared.fit(views)
    five = tf.data.Dataset.from_tensors((*frames(), frames()[0]))
    with pytest.raises(ValueError, match=r"exactly 4 views of each clip.*clips=True.*Received: 5"):
        shared.fit(five)
