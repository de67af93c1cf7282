"""The built-in data set."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from keras_ssl.data.digits import digits


def read_all(source):
    return np.stack([image for image, _ in source.dataset().as_numpy_iterator()])


def test_all_digits_in_scikit_learns_order():
    source, bunch = digits("all"), load_digits()
    images = read_all(source)
    assert images.shape == (1797, 8, 8, 1)
    assert images.dtype == np.uint8
    assert (images.min(), images.max()) == (0, 255)
    np.testing.assert_array_equal(np.round(images[..., 0] / 255 * 16), bunch.images)
    np.testing.assert_array_equal(source.labels, bunch.target)
    assert source.class_names == list("0123456789")
    assert source.skipped == {}


def test_train_and_test_partition_the_digits():
    train, test, whole = digits("train"), digits("test"), digits("all")
    assert (len(train), len(test)) == (1437, 360)
    counts = np.bincount(test.labels)
    np.testing.assert_allclose(counts, np.bincount(whole.labels) / 5, atol=1)
    together = np.concatenate([read_all(train), read_all(test)]).reshape(1797, 64)
    everything = read_all(whole).reshape(1797, 64)
    np.testing.assert_array_equal(sorted(map(tuple, together)), sorted(map(tuple, everything)))


def test_split_is_fixed_by_the_seed():
    np.testing.assert_array_equal(read_all(digits("test")), read_all(digits("test", seed=0)))
    assert (read_all(digits("test")) != read_all(digits("test", seed=1))).any()


def test_unknown_split():
    with pytest.raises(ValueError, match="Received: split='validation'"):
        digits("validation")
