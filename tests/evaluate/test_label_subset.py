"""Which labels are kept where labels are few."""

import numpy as np
import pytest

from keras_ssl.evaluate.label_subset import count_labels, label_subset

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


def test_the_share_that_is_used():
    """A smallest class of 5 images limits 50 % of 370 labels to 15."""
    labels = np.repeat([0, 1, 2], [200, 165, 5])
    found = count_labels(labels, 0.5)
    assert (found.images, found.labeled, found.per_class, found.limit) == (15, 370, 5, 2)
    assert found.share == pytest.approx(15 / 370)
    assert found.images == label_subset(labels, 0.5).size
    line = found.describe(["many", "more", "rare"])
    assert "15 of 370 (4.1%) instead of 50.0%" in line
    assert "class 'rare' has only 5" in line
    assert "class 2 has only 5" in found.describe()


def test_rounding_is_no_other_share():
    labels = np.arange(150) % 10  # 5 % are 7.5 images: one of each class
    for share in (0.05, 0.1, 0.13, 1.0):
        found = count_labels(labels, share)
        assert (found.share, found.limit, found.describe()) == (share, None, "")
        assert found.images == label_subset(labels, share).size
    assert count_labels(labels, 0.001).share == pytest.approx(10 / 150)  # at least one per class


@pytest.mark.parametrize("share", [0, -0.1, 1.01, float("nan")])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match=rf"must be in \(0, 1\]. Received: labels={share}"):
        label_subset(LABELS, share)


def test_there_must_be_labels():
    with pytest.raises(ValueError, match="Received: no image with a label"):
        label_subset(np.full(5, -1), 0.5)
