"""Which labels are kept where labels are few."""

import numpy as np
import pytest

from keras_ssl.evaluate.label_subset import label_subset

LABELS = np.random.default_rng(0).permutation(np.arange(1000) % 10)


def test_every_class_keeps_the_same_number():
    chosen = label_subset(LABELS, 0.05)
    assert np.bincount(LABELS[chosen]).tolist() == [5] * 10
    assert np.all(np.diff(chosen) > 0)


def test_the_seed_decides_and_a_smaller_share_is_a_part_of_a_larger():
    assert label_subset(LABELS, 0.1, seed=1).tolist() == label_subset(LABELS, 0.1, seed=1).tolist()
    assert label_subset(LABELS, 0.1, seed=1).tolist() != label_subset(LABELS, 0.1, seed=2).tolist()
    assert set(label_subset(LABELS, 0.01)) <= set(label_subset(LABELS, 0.1))


def test_images_without_a_label_are_never_chosen():
    labels = np.where(np.arange(1000) % 2, LABELS, -1)
    assert labels[label_subset(labels, 1.0)].min() >= 0
    assert labels[label_subset(labels, 0.1)].min() >= 0
    assert label_subset(labels, 1.0).size == 500


def test_unequal_classes_stay_balanced_and_none_is_left_out():
    labels = np.array([0] * 100 + [1] * 2)
    assert np.bincount(labels[label_subset(labels, 0.5)]).tolist() == [2, 2]
    assert np.bincount(labels[label_subset(labels, 0.001)]).tolist() == [1, 1]
    assert label_subset(labels, 1.0).size == 102


@pytest.mark.parametrize("share", [0, -0.1, 1.01, float("nan")])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match=rf"must be in \(0, 1\]. Received: labels={share}"):
        label_subset(LABELS, share)


def test_there_must_be_labels():
    with pytest.raises(ValueError, match="Received: no image with a label"):
        label_subset(np.full(5, -1), 0.5)
