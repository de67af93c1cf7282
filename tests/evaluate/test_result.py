import dataclasses
import json

import numpy as np
import pytest

from keras_ssl.evaluate import FewLabels, Result
from keras_ssl.evaluate.result import accuracies, best_classes


def test_result_is_frozen_and_fits_into_json():
    result = Result("knn", 0.5, None, 10, 20, {"k": 3, "temperature": 0.1})
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.accuracy = 1.0
    assert Result(**json.loads(json.dumps(result.to_dict()))) == result


def test_result_reads_well():
    assert str(Result("linear", 0.875, 0.99, 50000, 10000, {"solver": "sgd"})) == (
        "linear: 87.50 % (top 5: 99.00 %), 50,000 train and 10,000 test images, solver=sgd"
    )
    assert str(Result("knn", 1.0, None, 10, 20)) == "knn: 100.00 %, 10 train and 20 test images"
    assert str(Result("knn", 0.1, None, 10, 20, collapsed=True)).endswith(
        "[collapsed: the features are constant]"
    )


def test_few_labels_statistics():
    result = FewLabels("knn", 1, [0.4, 0.5, 0.9], 10, 20, {"k": 10})
    assert result.mean == pytest.approx(0.6)
    assert result.std == pytest.approx(np.sqrt((0.04 + 0.01 + 0.09) / 2))
    assert json.loads(json.dumps(result.to_dict()))["std"] == result.std
    assert str(result) == (
        "knn, 1 label per class: 60.00 % +- 26.46 % over 3 draws, 20 test images, k=10"
    )


def test_one_draw_has_no_spread():
    result = FewLabels("knn", 5, [0.4], 10, 20)
    assert result.std is None
    assert str(result) == "knn, 5 labels per class: 40.00 % over 1 draw, 20 test images"


def test_best_classes_and_accuracies():
    scores = np.array([[0, 5, 1, 2, 3, 4, -1], [7, 7, 7, 7, 7, 7, 7], [1, 0, 0, 0, 0, 0, 2]])
    best = best_classes(scores)
    np.testing.assert_array_equal(best, [[1, 5, 4, 3, 2], [0, 1, 2, 3, 4], [6, 0, 1, 2, 3]])
    top1, top5 = accuracies(best, np.array([1, 4, 5]), classes=7)
    assert top1 == pytest.approx(1 / 3)
    assert top5 == pytest.approx(2 / 3)
    assert accuracies(best, np.array([1, 4, 5]), classes=5)[1] is None
