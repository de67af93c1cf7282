"""CPC: its patches, what a prediction may depend on, and tasks that are impossible."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.backbones import Tiny
from keras_ssl.layers import ContextNetwork, without_batch_norm
from keras_ssl.methods import CPC

SHAPE = (8, 8, 3)


def backbone(shape=SHAPE):
    return without_batch_norm(Tiny(shape, features=8))


@pytest.fixture(scope="module")
def cpc():
    keras.utils.set_random_seed(1)
    return CPC(backbone(), context=ContextNetwork(8, depth=5))


def images(count=4, shape=SHAPE):
    return tf.constant(np.random.default_rng(0).random((count, *shape), np.float32))


def test_patches_overlap_by_half(cpc):
    assert cpc.grid == (7, 7)
    assert list(cpc.offsets) == [2, 3, 4, 5, 6]  # the next row overlaps, and is not predicted
    view = images()
    patches = tf.reshape(cpc.cut(view), (4, 7, 7, 2, 2, 3)).numpy()
    for row, column in ((0, 0), (3, 1), (6, 5)):
        expected = view[:, row : row + 2, column : column + 2]
        np.testing.assert_array_equal(patches[:, row, column], expected)
    # What is predicted two rows below shares no pixel with the row itself.
    numbers = tf.reshape(tf.range(64.0), (1, 8, 8, 1)) * tf.ones((1, 1, 1, 3))
    rows = tf.reshape(cpc.cut(numbers), (7, -1)).numpy()
    assert set(rows[1]) & set(rows[2])
    assert not set(rows[1]) & set(rows[3])


def test_the_default_grid_is_7_x_7():
    for side in (16, 32):
        assert CPC(backbone((side, side, 3))).grid == (7, 7)
    assert CPC(backbone((32, 32, 3)), patch=4).grid == (15, 15)
    wide = CPC(backbone((16, 24, 3)), patch=8, predictions=2)
    assert wide.grid == (3, 5)
    assert list(wide.offsets) == [2]
    assert np.isfinite(float(wide.ssl_loss(images(shape=(16, 24, 3)))))


@pytest.mark.parametrize("offset", [2, 5])
def test_a_prediction_depends_on_no_pixel_of_its_patch(cpc, offset):
    view = images(1)
    place = list(cpc.offsets).index(offset)
    with tf.GradientTape() as tape:
        tape.watch(view)
        _, predictions = cpc.predict_patches(cpc.encode(view))
        row = tf.reshape(predictions[place], (7 - offset, -1))[-1]  # predicts the last row
    gradient = tape.gradient(row, view).numpy()[0]
    seen = 7 - offset + 1  # pixels above the end of the patches of the row that predicts
    assert np.all(gradient[seen:] == 0)
    assert np.any(gradient[:seen] != 0, axis=(1, 2))[-1]


def test_patches_have_the_features_of_the_backbone(cpc):
    grid = cpc.encode(images()).numpy()
    features = images()[1:2, 2:4, 3:5]
    for layer in cpc.backbone.layers[1:]:
        features = layer(features)
    np.testing.assert_allclose(grid[1, 2, 3], features[0], atol=1e-5)


def test_constant_predictions_give_the_logarithm_of_the_candidates():
    model = CPC(backbone(), context=ContextNetwork(8, depth=1))
    for predictor in model.predictors:
        predictor.kernel.assign(tf.zeros_like(predictor.kernel))
    assert float(model.ssl_loss(images())) == pytest.approx(np.log(4 + 48), rel=1e-5)


@pytest.mark.parametrize("scale", [1, 5])
def test_a_repeated_image_costs_at_least_the_logarithm_of_the_batch(scale):
    model = CPC(backbone(), context=ContextNetwork(8, depth=1))
    model.set_weights([scale * weight for weight in model.get_weights()])
    assert float(model.ssl_loss(tf.repeat(images(1), 4, axis=0))) >= np.log(4) - 1e-4


def test_panels_count_the_patches_that_were_found(cpc):
    panels = cpc.panels(images())
    assert len(panels[0].captions) == 4
    assert all(caption.endswith("of 105 patches found") for caption in panels[0].captions)
    for right, true, found in zip(
        panels[3].captions, panels[2].images, panels[3].images, strict=True
    ):
        assert (right == "right") == np.array_equal(true, found)


def test_a_prediction_that_equals_its_patch_is_drawn_as_found(cpc, monkeypatch):
    view = images()

    def perfect(grid):
        pixels = tf.reshape(cpc.cut(view), (4, 7 * 7, -1)) - 0.5
        z = tf.math.l2_normalize(pixels, axis=-1)
        return z, [z[:, 7 * offset :] for offset in cpc.offsets]

    monkeypatch.setattr(cpc, "predict_patches", perfect)
    panels = cpc.panels(view)
    assert panels[3].captions == ["right"] * 4
    np.testing.assert_array_equal(panels[3].images, panels[2].images)
    # From row 2 of 7: the view down to the end of that row, and the patch in row 4, column 3.
    side, step = 2, 1
    np.testing.assert_array_equal(
        panels[2].images, view[:, 4 * step : 4 * step + side, 3 * step : 3 * step + side]
    )
    np.testing.assert_array_equal(
        panels[1].images[:, : 2 * step + side], view[:, : 2 * step + side]
    )
    assert panels[1].images[:, 2 * step + side :].min() == 1


def test_refuses_batch_normalization():
    with pytest.raises(
        ValueError, match=r"Expected: .*without_batch_norm\(backbone\).*with 3 batch"
    ):
        CPC(Tiny(SHAPE))


@pytest.mark.parametrize("arguments", [{"patch": 1}, {"patch": 3}, {"patch": 6}, {"patch": 10}])
def test_refuses_patches_that_make_no_grid(arguments):
    with pytest.raises(ValueError, match=r"at least 3 rows .* images of 8 x 8 pixels"):
        CPC(backbone(), **arguments)


def test_refuses_other_wrong_arguments():
    with pytest.raises(
        ValueError, match=r"`predictions` must be at least 1\. Received: predic.*=0"
    ):
        CPC(backbone(), predictions=0)
    dense = keras.Sequential(
        [keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(4)], name="flat"
    )
    with pytest.raises(
        ValueError, match=r"also works on patches.* Received: 'flat', for patches of 2"
    ):
        CPC(dense)
    pixels = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten()])
    with pytest.raises(ValueError, match="do not depend on the size of the image"):
        CPC(pixels)
