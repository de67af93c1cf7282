"""k-means on the sphere, and the clusterings of a data set."""

import sys

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import normalized_mutual_info_score

from keras_ssl.layers import Clusters, spherical_k_means


def blobs(count=120, groups=4, dim=6, noise=0.05, seed=0):
    """Returns vectors of length 1 around some directions, and their groups."""
    generator = np.random.default_rng(seed)
    directions = np.linalg.qr(generator.normal(size=(dim, dim)))[0][:groups]
    groups = generator.integers(0, groups, count)
    vectors = directions[groups] + noise * generator.normal(size=(count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype("float32"), groups


def one_of_each(vectors, groups):
    return tf.gather(vectors, [int(np.argmax(groups == group)) for group in range(4)])


def test_it_finds_the_groups():
    vectors, groups = blobs()
    centers, labels = spherical_k_means(tf.constant(vectors), one_of_each(vectors, groups))
    assert normalized_mutual_info_score(groups, labels) == pytest.approx(1)
    np.testing.assert_allclose(np.linalg.norm(centers, axis=1), 1, atol=1e-6)


def test_a_step_equals_numpy():
    vectors, _ = blobs(noise=0.8)
    start = vectors[:5]
    centers, _ = spherical_k_means(tf.constant(vectors), tf.constant(start), iterations=1)
    labels = np.argmax(vectors @ start.T, axis=1)
    sums = np.stack([vectors[labels == number].sum(axis=0) for number in range(5)])
    expected = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    np.testing.assert_allclose(centers, expected, atol=1e-5)


def test_permuted_vectors_have_permuted_labels(monkeypatch):
    vectors, groups = blobs(noise=0.4)
    start = one_of_each(vectors, groups)
    order = np.random.default_rng(1).permutation(len(vectors))
    _, labels = spherical_k_means(tf.constant(vectors), start)
    _, permuted = spherical_k_means(tf.constant(vectors[order]), start)
    np.testing.assert_array_equal(permuted, np.asarray(labels)[order])
    module = sys.modules[spherical_k_means.__module__]
    monkeypatch.setattr(module, "_ROWS", 50)  # compares in parts
    np.testing.assert_array_equal(spherical_k_means(tf.constant(vectors), start)[1], labels)


def test_an_empty_cluster_keeps_its_center():
    vectors = tf.constant([[1.0, 0.0], [0.8, 0.6]])
    start = tf.constant([[1.0, 0.0], [-1.0, 0.0]])
    centers, labels = spherical_k_means(vectors, start)
    np.testing.assert_array_equal(centers[1], start[1])
    assert labels.numpy().tolist() == [0, 0]


def test_clusterings_depend_on_seed_and_epoch():
    vectors = tf.constant(blobs(noise=0.8)[0])

    def found(seed, epoch):
        clusters = Clusters(120, 6, (10, 8), seed)
        clusters.update(vectors, epoch)
        assert int(clusters.epochs) == epoch + 1
        return np.asarray(clusters.labels)

    first = found(0, 3)
    assert first.shape == (2, 120)
    np.testing.assert_array_equal(first, found(0, 3))
    assert np.any(first != found(0, 4))
    assert np.any(first != found(1, 3))
    assert set(first[1]) <= set(range(8))


@pytest.mark.parametrize("counts", [(), (1,), (3, 11)])
def test_counts_out_of_range_are_refused(counts):
    with pytest.raises(ValueError, match=r"from 2 to the number of images\. Received: counts="):
        Clusters(10, 4, counts)
