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
    # With one more right and wrong image of each class: 91 and 81 of 102, and twice 51 of 102.
    shares = np.array([91, 81, 51, 51]) / 102
    margin = 100 * 2 * np.sqrt((shares * (1 - shares) / 102).sum()) / 2
    assert margin == pytest.approx(8.6, abs=0.05)
    assert lines == [
        "Trained against raw pixels: kNN +35.0 ± 8.6 (better), linear +35.0 ± 8.6 (better)\n"
        "(points of mean-per-class accuracy ± two standard errors)"
    ]


def test_a_class_that_is_always_right_is_not_certain():
    lines = verdict({"raw pixels": row(0.0), "trained": row(1.0)}, images([1]))
    assert "kNN +100.0 ± 77.0 (better)" in lines[0]  # 2 * sqrt(2 * (2 / 9) / 3)


@pytest.mark.parametrize(("trained", "word"), [((0.52, 0.5), "equal"), ((0.2, 0.3), "worse")])
def test_an_encoder_that_is_not_better_gets_advice(trained, word):
    lines = verdict({"raw pixels": row(0.5, 0.5), "trained": row(*trained)}, TEST)
    assert lines[0].count(f"({word})") == 2
    assert lines[-1].startswith("What to try")


def test_every_baseline_must_be_beaten():
    rows = {"raw pixels": row(0.1, 0.1), "untrained": row(0.9, 0.9), "trained": row(0.5, 0.5)}
    lines = verdict(rows, TEST)
    assert "Trained against raw pixels: kNN +40.0" in lines[0]
    assert "Trained against untrained: kNN -40.0" in lines[1]
    assert lines[2].startswith("What to try")


@pytest.mark.parametrize(("linear", "beaten"), [((0.5, 0.5), True), ((0.1, 0.1), False)])
def test_one_protocol_is_enough_if_the_other_is_not_worse(linear, beaten):
    trained = {"knn": row(0.9, 0.9)["knn"], "linear": row(*linear)["linear"]}
    lines = verdict({"raw pixels": row(0.5, 0.5), "trained": trained}, TEST)
    assert lines[-1].startswith("What to try") != beaten


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
    assert lines[1].endswith(
        "right for 85.0% of the test images, and for 50.0% in the mean over classes."
    )


def test_numbers_of_labels_that_the_rarest_class_lacks_are_named():
    lines = describe_classes(images([90, 4], ["cat", "dog"]), images([5, 5]), per_class=(1, 5, 10))
    assert lines[1] == "Not measured: 5, 10 labels per class, because dog has 4 training images."


def test_images_without_labels_are_not_described():
    unlabeled = data.arrays(np.zeros((4, 2, 2, 1), np.uint8))
    assert describe_classes(unlabeled, images([1, 1])) == []
    assert describe_classes(images([1, 1]), unlabeled) == []


def test_few_labels_count_too():
    """With all labels the encoders are equal; with few labels one is better in every draw."""

    def few(*accuracies):
        kind = {"protocol": "linear", "mean_per_class_accuracies": list(accuracies)}
        return {"few_labels": [{**kind, "per_class": 1}, {**kind, "per_class": 10}]}

    rows = {
        "raw pixels": row(0.9, 0.9) | few(0.5, 0.6, 0.7),
        "trained": row(0.9, 0.9) | few(0.61, 0.7, 0.79),
    }
    lines = verdict(rows, TEST)
    # Differences of 11, 10 and 9 points: standard error 1 / sqrt(3).
    assert "linear with 10 labels per class +10.0 ± 1.2 (better)" in lines[0]
    assert not lines[-1].startswith("What to try")
    rows["raw pixels"] |= few(0.5, 0.6)
    rows["trained"] |= few(0.6, 0.7)
    assert "10 labels" not in verdict(rows, TEST)[0]
