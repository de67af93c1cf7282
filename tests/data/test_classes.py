"""Classes of two sets of labels are matched by name."""

import logging

import numpy as np
import pytest

from keras_ssl import data
from keras_ssl.data.classes import join_labels, match_classes, match_source, number_labels


def source(names, labels, class_names=True):
    """Returns images whose pixels are 10 * the rank of their class among a, b, c, ..."""
    ranks = ["abcdefghijklm".index(names[label]) for label in labels]
    images = np.array(ranks, np.uint8).reshape(-1, 1, 1, 1) * np.full((1, 4, 4, 1), 10, np.uint8)
    return data.arrays(images, labels, list(names) if class_names else None, name=f"set of {names}")


def ranks(matched):
    return [int(matched.read(index).numpy()[0, 0, 0]) // 10 for index in range(len(matched))]


def test_labels_are_renumbered_by_name():
    train, test = source("abcde", [0, 1, 2, 3, 4]), source("bd", [0, 1, 1])
    matched = match_source(train, test)
    assert matched.labels.tolist() == [1, 3, 3]
    assert matched.class_names == train.class_names
    assert ranks(matched) == [1, 3, 3]  # the images stay with their labels


def test_classes_without_training_images_are_left_out_and_named(caplog):
    train, test = source("abc", [0, 1, 2]), source("bdce", [0, 1, 2, 3, 3])
    with caplog.at_level(logging.WARNING):
        matched = match_source(train, test)
    assert matched.labels.tolist() == [1, 2]
    assert ranks(matched) == [1, 2]
    assert "3 images" in caplog.text
    assert "d, e" in caplog.text
    assert "no image of these classes of the training images: a" in caplog.text


def test_a_class_that_is_only_named_has_no_training_images():
    train = source("abc", [0, 1, 2]).subset([0, 2])
    assert match_source(train, source("abc", [0, 1, 2])).labels.tolist() == [0, 2]


def test_a_network_refuses_a_class_that_it_was_not_trained_on():
    train, test = source("abc", [0, 1, 2]), source("bd", [0, 1])
    with pytest.raises(
        ValueError, match=r"must be a class of the network. Received: d in 'set of bd'"
    ):
        match_source(train, test, strict=True)


def test_sets_without_common_classes_are_refused():
    with pytest.raises(
        ValueError, match=r"classes in common. Received: c, d only in the test .* a, b"
    ):
        match_source(source("ab", [0, 1]), source("cd", [0, 1]))


def test_equal_classes_change_nothing():
    test = source("ab", [1, 0])
    assert match_source(source("ab", [0, 1]), test) is test


@pytest.mark.parametrize("named", [(True, False), (False, True), (False, False)])
def test_without_names_numbers_are_compared(named):
    train = source("ab", [0, 1], class_names=named[0])
    test = source("abc", [1, 0, 2], class_names=named[1])
    matched = match_source(train, test)
    assert matched.labels.tolist() == [1, 0]


def test_images_without_a_label_stay():
    train, test = source("ab", [0, 1]), source("cb", [1, 0, 1])
    unlabeled = data.arrays(np.zeros((3, 4, 4, 1), np.uint8), [1, -1, 0], ["c", "b"])
    assert match_source(train, unlabeled).labels.tolist() == [1, -1]
    assert match_source(train, test).labels.tolist() == [1, 1]


def test_unlabeled_sources_are_returned():
    images = data.arrays(np.zeros((2, 4, 4, 1), np.uint8))
    assert match_source(images, source("ab", [0, 1])).class_names == ["a", "b"]
    assert match_source(source("ab", [0, 1]), images) is images


def test_label_arrays_are_matched():
    found = match_classes([0, 1, -1], ["cat", "dog"], [0, 1, 1, -1], ["cow", "dog"])
    assert found.labels.tolist() == [-1, 1, 1, -1]
    assert found.untrained == {"cow": 1}
    assert found.untested == ["cat"]


def test_folders_with_other_subfolders(tmp_path):
    """A test folder with two of five classes was numbered 0 and 1: every prediction was wrong."""
    import tensorflow as tf

    for split, names in (("train", "abcde"), ("val", "bd")):
        for name in names:
            for number in range(2):
                image = np.full((8, 8, 3), 40 * "abcde".index(name), np.uint8)
                file = tmp_path / split / name / f"{number}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(tf.io.encode_png(image).numpy())
    from keras_ssl.data.open_source import open_labeled

    train, test = open_labeled(tmp_path)
    assert [train.class_names[label] for label in test.labels] == ["b", "b", "d", "d"]


def test_labels_of_several_sources_are_joined_by_name():
    unlabeled = data.arrays(np.zeros((1, 4, 4, 1), np.uint8))
    labels, names = join_labels([source("bd", [1, 0]), unlabeled, source("abc", [0, 1, 2])])
    assert names == ["b", "d", "a", "c"]
    assert labels.tolist() == [1, 0, -1, 2, 0, 3]


def test_named_and_unnamed_labels_are_not_joined():
    assert join_labels([source("ab", [0]), source("ab", [1], class_names=False)]) == (None, None)
    unnamed = [source("ab", [0], class_names=False), source("ab", [1], class_names=False)]
    labels, names = join_labels(unnamed)
    assert labels.tolist() == [0, 1]
    assert names is None


def test_class_names_must_differ():
    with pytest.raises(ValueError, match=r"`class_names` must differ. Received: \['a', 'a'\]"):
        data.arrays(np.zeros((2, 4, 4, 1), np.uint8), [0, 1], ["a", "a"])


def test_labels_are_numbered_as_the_classes_of_a_network(caplog):
    images = source("bdc", [0, 1, 2, 1])
    numbered = number_labels(images, ["d", "b"], classes=2)
    assert numbered.labels.tolist() == [1, 0, -1, 0]
    assert ranks(numbered) == [1, 3, 2, 3]  # no image is left out
    assert "labels of 1 images" in caplog.text
    assert number_labels(images, ["b", "d", "c"], classes=3) is images


def test_labels_without_names_are_classes_of_a_network_by_number():
    images = source("abc", [0, 1, 2], class_names=False)
    assert number_labels(images, ["x", "y"], classes=2).labels.tolist() == [0, 1, -1]
    with pytest.raises(ValueError, match=r"has 2: x, y\. Received: a, b in"):
        number_labels(source("ab", [0, 1]), ["x", "y"], classes=2)
