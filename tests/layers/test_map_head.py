"""MapHead and the bilinear enlargement of feature maps."""

import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.layers import MapHead
from keras_ssl.layers.map_head import resize_maps


@pytest.mark.parametrize(("old", "new"), [((4, 4), (8, 8)), ((3, 5), (7, 9)), ((4, 4), (4, 6))])
def test_enlarging_equals_tensorflows(old, new):
    maps = np.random.default_rng(0).normal(size=(2, *old, 3)).astype(np.float32)
    np.testing.assert_allclose(
        resize_maps(maps, *new), tf.image.resize(maps, new, "bilinear"), atol=1e-5
    )


def test_maps_of_the_right_size_are_unchanged():
    maps = np.random.default_rng(0).normal(size=(2, 4, 5, 3)).astype(np.float32)
    np.testing.assert_array_equal(resize_maps(maps, 4, 5), maps)


def test_each_place_depends_on_its_surroundings():
    head = MapHead(5, hidden_units=8)
    maps = np.random.default_rng(0).normal(size=(1, 6, 6, 3)).astype(np.float32)
    logits = head(maps).numpy()
    assert logits.shape == (1, 6, 6, 5) == head.compute_output_shape((1, 6, 6, 3))
    maps[0, 0, 0] += 1
    changed = np.abs(head(maps).numpy() - logits).max(axis=(0, 3)) > 1e-6
    assert changed.any()
    assert not changed[2:].any()
    assert not changed[:, 2:].any()
    copy = MapHead.from_config(head.get_config())
    assert (copy.units, copy.hidden_units) == (5, 8)


@pytest.mark.parametrize("name", ["units", "hidden_units"])
def test_bad_arguments_are_refused(name):
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1. Received: {name}=0"):
        MapHead(**{"units": 3, name: 0})
