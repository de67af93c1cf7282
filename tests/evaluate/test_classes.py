"""Every protocol matches classes by name, and reports the mean over classes."""

import numpy as np
import pytest

from keras_ssl import callbacks, data, evaluate
from keras_ssl.evaluate import Features

NAMES = list("abcde")


def features(labels, names, unknown=()):
    """Returns features that are the one-hot code of the class's rank: every protocol must be right."""
    ranks = ["abcdefg".index(names[label]) for label in labels]
    values = np.eye(7, dtype=np.float32)[ranks] + 0.01 * np.random.default_rng(0).normal(
        size=(len(ranks), 7)
    )
    return Features(values, labels, f"set of {''.join(names)}", class_names=names)


TRAIN = features(np.repeat(np.arange(5), 6), NAMES)


@pytest.mark.parametrize("protocol", ["knn", "linear", "few"])
def test_a_right_encoder_is_right_whatever_the_numbers_are(protocol):
    test = features(np.array([0, 0, 1, 1]), ["b", "d"])
    if protocol == "few":
        results = evaluate.few_labels(None, TRAIN, test, per_class=(1,), draws=2)
        assert results[0].accuracies == [1.0, 1.0]
        assert results[0].mean_per_class == 1.0
    else:
        result = getattr(evaluate, protocol)(None, TRAIN, test)
        assert result.accuracy == 1.0
        assert result.per_class == {"b": 1.0, "d": 1.0}


@pytest.mark.parametrize("protocol", ["knn", "linear"])
def test_images_of_unknown_classes_are_left_out(protocol, caplog):
    test = features(np.array([0, 0, 1]), ["b", "g"])
    result = getattr(evaluate, protocol)(None, TRAIN, test)
    assert result.accuracy == 1.0
    assert result.test_size == 2
    assert "1 images" in caplog.text
    assert ": g" in caplog.text


def test_no_common_class_is_refused():
    test = features(np.array([0, 1]), ["f", "g"])
    with pytest.raises(ValueError, match="f, g only in the test images"):
        evaluate.knn(None, TRAIN, test)


def test_the_mean_per_class_ignores_how_frequent_classes_are():
    """A classifier that always predicts the majority has a top-1 accuracy of its share."""
    train = Features(np.ones((10, 2)), np.repeat([0, 1], [9, 1]))
    test = Features(np.ones((20, 2)), np.repeat([0, 1], [17, 3]))
    result = evaluate.knn(None, train, test, k=10)
    assert result.accuracy == pytest.approx(0.85)
    assert result.mean_per_class == pytest.approx(0.5)
    assert result.per_class == {"0": 1.0, "1": 0.0}
    assert "mean per class: 50.00 %" in str(result)
    assert result.to_dict()["mean_per_class"] == pytest.approx(0.5)


def test_the_monitor_matches_classes_before_training():
    images = np.zeros((4, 8, 8, 1), np.uint8)
    train = data.arrays(images, [0, 1, 2, 3], ["a", "b", "c", "d"])
    monitor = callbacks.KNNMonitor(train, data.arrays(images[:2], [0, 1], ["b", "d"]))
    assert monitor.test.labels.tolist() == [1, 3]
    with pytest.raises(ValueError, match="classes in common"):
        callbacks.KNNMonitor(train, data.arrays(images[:2], [0, 1], ["e", "f"]))


def test_every_label_needs_a_name():
    with pytest.raises(ValueError, match=r"must name every label, 0 to 2\. Received: 2 names"):
        Features(np.eye(3), np.arange(3), class_names=["a", "b"])
