"""color_clusters: the usual colors of images."""

import numpy as np
import pytest

from keras_ssl import data
from keras_ssl.layers import LabToRGB

CENTERS = np.array([[-40, 30], [0, -40], [10, 5], [50, 40]], np.float32)


def images(count=8, spread=3.0):
    """Returns images whose colors lie around `CENTERS`."""
    generator = np.random.default_rng(0)
    ab = CENTERS[generator.integers(0, 4, (count, 32, 32))]
    ab = ab + spread * generator.uniform(-1, 1, ab.shape)
    lab = np.concatenate([np.full((count, 32, 32, 1), 60), ab], axis=-1).astype(np.float32)
    return data.arrays((255 * LabToRGB()(lab).numpy()).round().astype(np.uint8))


def test_the_clusters_are_found_in_order():
    found = data.color_clusters(images(), 4)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, CENTERS, atol=0.5)
    np.testing.assert_array_equal(found, data.color_clusters(images(), 4))


def test_clips_have_the_clusters_of_their_first_frames():
    frames = np.stack([image.numpy() for image, _ in images().dataset()])
    clips = np.stack([frames, np.zeros_like(frames)], axis=1)
    found = data.color_clusters(data.clip_arrays(clips), 4)
    np.testing.assert_array_equal(found, data.color_clusters(images(), 4))


def test_what_has_no_clusters_is_refused():
    with pytest.raises(ValueError, match=r"`count` must be at least 2\. Received: count=1"):
        data.color_clusters(images(), 1)
    with pytest.raises(ValueError, match=r"needs images with 3 channels\. Received: 1"):
        data.color_clusters(data.digits("test"))
    gray = data.arrays(np.full((4, 8, 8, 3), 100, np.uint8))
    with pytest.raises(ValueError, match=r"at least 16 different colors.*looked at have 0"):
        data.color_clusters(gray)
