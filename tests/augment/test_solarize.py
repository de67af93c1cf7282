import numpy as np
import pytest

from keras_ssl.augment import RandomSolarize


def twin(images, threshold):
    """Inverts the values one by one."""
    flat = [1.0 - value if value >= threshold else value for value in images.ravel().tolist()]
    return np.array(flat).reshape(images.shape)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 1.0])
def test_inverts_values_from_the_threshold(noise, keys, threshold):
    images = noise(4, 6, 5)
    images[0, 0, :3, 0] = 0.0, threshold, 1.0
    images[1, 0, 0] = 0.1, 0.9, 0.2  # channels are inverted separately
    found = RandomSolarize(probability=1.0, threshold=threshold)(images, keys=keys(4))
    np.testing.assert_allclose(found, twin(images, np.float32(threshold)), atol=1e-7)


def test_the_threshold_itself_is_inverted(keys):
    below = np.nextafter(np.float32(0.25), np.float32(0))
    images = np.array([below, 0.25, 0.75, 1.0], np.float32).reshape(1, 1, 4, 1)
    found = RandomSolarize(probability=1.0, threshold=0.25)(images, keys=keys(1))
    np.testing.assert_array_equal(found[0, 0, :, 0], [below, 0.75, 0.25, 0.0])


def test_the_brighter_half_of_the_bytes_is_inverted(keys):
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    found = RandomSolarize(probability=1.0)(images, keys=keys(1)).numpy().ravel() * 255
    expected = [*range(128), *range(127, -1, -1)]  # as `ImageOps.solarize` of Pillow at 128
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_never(noise, keys):
    found = RandomSolarize(probability=0.0)(noise(), keys=keys(6))
    np.testing.assert_array_equal(found, noise())


@pytest.mark.parametrize("probability", [0.2, 0.7])
def test_rate(keys, probability):
    count = 10_000
    found = RandomSolarize(probability)(np.ones((count, 1, 1, 3), np.float32), keys=keys(count))
    black = (found.numpy() == 0).all(axis=(1, 2, 3))
    deviation = np.sqrt(probability * (1 - probability) / count)
    assert black.mean() == pytest.approx(probability, abs=4 * deviation)
    assert (found.numpy()[~black] == 1).all()


def test_byols_numbers_are_the_defaults():
    layer = RandomSolarize()
    assert (layer.probability, layer.threshold) == (0.2, 0.5)


@pytest.mark.parametrize("threshold", [-0.1, 1.5, 128])
def test_rejects_a_threshold_out_of_range(threshold):
    message = rf"`threshold` must lie in \[0, 1\]\. Received: threshold={threshold}"
    with pytest.raises(ValueError, match=message):
        RandomSolarize(threshold=threshold)


def test_rejects_a_bad_probability():
    with pytest.raises(ValueError, match=r"`probability` must lie in \[0, 1\]"):
        RandomSolarize(probability=2)
