"""The verdict: is the trained encoder better than the baselines?"""

import numpy as np
import pytest

from keras_ssl import data
from keras_ssl.runs.verdict import describe_classes, verdict


def images(counts, names=None):
    labels = np.repeat(np.arange(len(counts)), counts)
    return data.arrays(np.zeros((len(labels), 2, 2, 1), np.uint8), labels, names)


def row(*per_class):
    result = {
        "per_class": {str(number): accuracy for number, accuracy in enumerate(per_class)},
        "mean_per_class": float(np.mean(per_class)),
    }
    return {"knn": result, "linear": result}


TEST = images([100, 100])


def test_a_better_encoder():
    lines = verdict({"raw pixels": row(0.5, 0.5), "trained": row(0.9, 0.8)}, TEST)
    # Two standard errors: sqrt((.5 * .5 * 2 + .9 * .1 + .8 * .2) / 100) / 2 = 0.0433
    assert lines == [
        "The trained encoder is better than raw pixels: kNN +35.0 ± 8.7, linear +35.0 ± 8.7 points."
    ]


@pytest.mark.parametrize(
    ("trained", "word"), [((0.52, 0.5), "not distinguishable from"), ((0.2, 0.3), "worse than")]
)
def test_an_encoder_that_is_not_better_gets_advice(trained, word):
    lines = verdict({"raw pixels": row(0.5, 0.5), "trained": row(*trained)}, TEST)
    assert f"is {word} raw pixels" in lines[0]
    assert lines[-1].startswith("What to try")


def test_every_baseline_must_be_beaten():
    rows = {"raw pixels": row(0.1, 0.1), "untrained": row(0.9, 0.9), "trained": row(0.5, 0.5)}
    lines = verdict(rows, TEST)
    assert "better than raw pixels" in lines[0]
    assert "worse than untrained" in lines[1]
    assert lines[2].startswith("What to try")


def test_without_baselines_there_is_no_verdict():
    assert verdict({"trained": row(0.5)}, TEST) == []
    assert verdict({"other": row(0.5), "raw pixels": row(0.1)}, TEST) == []


def test_classes_are_described():
    lines = describe_classes(images([5, 5, 5], ["cat", "dog", "cow"]), images([4, 4, 4]))
    assert lines[0] == "Classes: 3 (cat, dog, cow), 5 training images each"
    assert "right for 33.3% of the test images." in lines[1]


def test_unbalanced_classes_are_pointed_out():
    lines = describe_classes(images([90, 10]), images([85, 15]))
    assert "10 to 90 training images each" in lines[0]
    assert "right for 85.0% of the test images; compare mean-per-class" in lines[1]
    assert lines[1].endswith("50.0%.")


def test_images_without_labels_are_not_described():
    unlabeled = data.arrays(np.zeros((4, 2, 2, 1), np.uint8))
    assert describe_classes(unlabeled, images([1, 1])) == []
    assert describe_classes(images([1, 1]), unlabeled) == []
