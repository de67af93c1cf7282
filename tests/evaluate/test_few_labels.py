import importlib

import numpy as np
import pytest

from keras_ssl import data, evaluate
from keras_ssl.backbones import Tiny

module = importlib.import_module("keras_ssl.evaluate.few_labels")  # the name is the function's too


@pytest.fixture(scope="module")
def digits():
    pixels = evaluate.pixels((8, 8, 1))
    return [evaluate.extract(pixels, data.digits(split)) for split in ("train", "test")]


def test_draws_are_balanced_nested_and_repeatable():
    labels = np.random.default_rng(0).integers(0, 6, 300)
    draws = [module.draw(labels, 5, seed=3, number=i) for i in range(4)]
    for chosen in draws:
        np.testing.assert_array_equal(np.bincount(labels[chosen]), np.full(6, 5))
        assert len(np.unique(chosen)) == 30
    assert len({tuple(chosen) for chosen in draws}) == 4
    np.testing.assert_array_equal(draws[2], module.draw(labels, 5, seed=3, number=2))
    assert set(module.draw(labels, 2, seed=3, number=2)) < set(draws[2])
    assert set(module.draw(labels, 5, seed=4, number=2)) != set(draws[2])


def test_every_image_is_drawn_sooner_or_later():
    labels = np.repeat([0, 1], 10)
    seen = np.concatenate([module.draw(labels, 3, 0, i) for i in range(60)])
    np.testing.assert_array_equal(np.unique(seen), np.arange(20))


@pytest.mark.parametrize("protocol", ["knn", "linear"])
def test_it_is_the_protocol_on_each_draw(digits, protocol):
    train, test = digits
    run = {"knn": evaluate.knn, "linear": evaluate.linear}[protocol]
    results = evaluate.few_labels(
        None, train, test, per_class=(2, 7), draws=3, seed=5, protocol=protocol
    )
    assert [result.per_class for result in results] == [2, 7]
    for result in results:
        expected = [
            run(
                None, train.subset(module.draw(train.labels, result.per_class, 5, i)), test
            ).accuracy
            for i in range(3)
        ]
        assert result.accuracies == expected
        assert result.mean == pytest.approx(np.mean(expected))
        assert result.std == pytest.approx(np.std(expected, ddof=1))
        assert result.train_size == 10 * result.per_class
        assert result.test_size == 360
        assert result.protocol == protocol
    assert results[1].mean > results[0].mean


def test_settings_are_told(digits):
    knn = evaluate.few_labels(None, *digits, per_class=(1, 30), draws=2, seed=1)
    assert [result.settings["k"] for result in knn] == [10, 200]
    assert knn[0].settings == {
        "k": 10,
        "k_requested": 200,
        "temperature": 0.1,
        "draws": 2,
        "seed": 1,
        "batch_size": 256,
        "preprocessing": "evaluation(8)",
    }
    linear = evaluate.few_labels(None, *digits, per_class=[1], draws=2, protocol="linear")
    assert linear[0].settings == {
        "solver": "logistic",
        "inverse_l2": 0.1,
        "max_iter": 1000,
        "converged": True,
        "draws": 2,
        "seed": 0,
        "batch_size": 256,
        "preprocessing": "evaluation(8)",
    }


def test_encoders_see_the_same_draws_and_each_image_once():
    train, test = data.digits("train"), data.digits("test")
    calls = []

    class Counted:
        def __init__(self, source):
            self.labels, self.name, self.source = source.labels, source.name, source

        def dataset(self):
            calls.append(self.name)
            return self.source.dataset()

    backbone = Tiny((8, 8, 1))
    counted = evaluate.few_labels(backbone, Counted(train), Counted(test), draws=4)
    assert len(calls) == 2
    again = evaluate.few_labels(backbone, train, test, draws=4)
    assert [result.accuracies for result in counted] == [result.accuracies for result in again]
    twice = evaluate.few_labels(
        None, *[evaluate.extract(backbone, source) for source in (train, test)], draws=4
    )
    assert [result.accuracies for result in twice] == [result.accuracies for result in again]


def test_collapse_is_told():
    features = evaluate.Features(np.ones((12, 4)), np.arange(12) % 3)
    assert evaluate.few_labels(None, features, features, per_class=(1,), draws=2)[0].collapsed


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        (
            {"per_class": (1, 10_000)},
            r"at least 10000 labeled images. Received: 1\d\d of class \d",
        ),
        ({"per_class": (0,)}, "`per_class` must be positive.*0"),
        ({"draws": 0}, "`draws` must be positive"),
        ({"protocol": "svm"}, "'knn' or 'linear'.*svm"),
        ({"k": 0}, "`k` must be positive"),
    ],
)
def test_settings_out_of_range(digits, settings, match):
    with pytest.raises(ValueError, match=match):
        evaluate.few_labels(None, *digits, **settings)
