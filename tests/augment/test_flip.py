import numpy as np
import pytest

from keras_ssl.augment import RandomFlip


def test_mirrors_left_to_right(noise, keys):
    images = noise()
    flipped = RandomFlip(probability=1.0)(images, keys=keys(6))
    np.testing.assert_array_equal(flipped, images[:, :, ::-1])


def test_never(noise, keys):
    np.testing.assert_array_equal(RandomFlip(probability=0.0)(noise(), keys=keys(6)), noise())


@pytest.mark.parametrize("probability", [0.5, 0.2])
def test_rate(keys, probability):
    count = 10_000
    images = np.tile(np.array([0, 1], np.float32).reshape(1, 1, 2, 1), (count, 1, 1, 1))
    flipped = RandomFlip(probability)(images, keys=keys(count)).numpy()[:, 0, 0, 0]
    deviation = np.sqrt(probability * (1 - probability) / count)
    assert flipped.mean() == pytest.approx(probability, abs=4 * deviation)


@pytest.mark.parametrize("probability", [-0.1, 1.5])
def test_rejects_a_bad_probability(probability):
    message = rf"`probability` must lie in \[0, 1\]\. Received: probability={probability}"
    with pytest.raises(ValueError, match=message):
        RandomFlip(probability)
