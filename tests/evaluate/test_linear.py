import importlib
import warnings

import keras
import numpy as np
import pytest

from keras_ssl import data, evaluate

module = importlib.import_module("keras_ssl.evaluate.linear")  # `evaluate.linear` is the function


@pytest.fixture(scope="module")
def digits():
    pixels = evaluate.pixels((8, 8, 1))
    return [evaluate.extract(pixels, data.digits(split)) for split in ("train", "test")]


@pytest.fixture(scope="module")
def medium():
    """3,000 images in 60 correlated dimensions, ten classes that overlap."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 10, 4500)
    mix = rng.normal(size=(60, 60)) * np.geomspace(5, 0.1, 60)
    values = (rng.normal(size=(10, 60))[labels] * 0.45 + rng.normal(size=(4500, 60))) @ mix.T
    features = evaluate.Features(100 + values, labels)
    return features.subset(np.arange(3000)), features.subset(np.arange(3000, 4500))


def twin(x, labels, classes, inverse_l2, steps=2000):
    """Minimum of mean cross-entropy + |weights|^2 / (2 inverse_l2 n), by gradient descent."""
    weights, bias = np.zeros((classes, x.shape[1])), np.zeros(classes)
    for _ in range(steps):
        p = np.exp(x @ weights.T + bias)
        p /= p.sum(axis=1, keepdims=True)
        error = p - np.eye(classes)[labels]
        weights -= 0.3 * (error.T @ x / len(x) + weights / (inverse_l2 * len(x)))
        bias -= 0.3 * error.mean(axis=0)
    return weights, bias


def test_digits_logistic(digits):
    result = evaluate.linear(None, *digits)
    assert result.protocol == "linear"
    assert 0.93 < result.accuracy < 1
    assert result.top5 > 0.99
    assert (result.train_size, result.test_size) == (1437, 360)
    assert result.settings["converged"]
    assert result.settings["iterations"] < 200
    assert {key: result.settings[key] for key in ("solver", "solver_requested", "inverse_l2")} == {
        "solver": "logistic",
        "solver_requested": "auto",
        "inverse_l2": 0.1,
    }


@pytest.mark.parametrize("inverse_l2", [1e-3, 0.1])
def test_logistic_is_the_numpy_twin(inverse_l2):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 6, 400)
    values = rng.normal(size=(6, 5))[labels] + rng.normal(size=(400, 5)) * [1, 2, 3, 4, 5]
    train = evaluate.Features(values[:200], labels[:200])
    test = evaluate.Features(values[200:], labels[200:])
    mean, std = train.values.mean(axis=0), train.values.std(axis=0)
    weights, bias = twin((train.values - mean) / std, train.labels, 6, inverse_l2)
    scores = (test.values - mean) / std @ weights.T + bias
    best, classes, _ = module.fit_logistic(train, test, inverse_l2, max_iter=1000)
    assert classes == 6
    # The two minima differ in the fourth digit: near ties may fall either way.
    assert np.mean(best == np.argsort(-scores, axis=1)[:, :5]) > 0.98


def test_the_solvers_agree(medium):
    logistic = evaluate.linear(None, *medium, solver="logistic")
    sgd = evaluate.linear(None, *medium, solver="sgd")
    assert 0.6 < logistic.accuracy < 0.95
    assert abs(logistic.accuracy - sgd.accuracy) < 0.015
    assert abs(logistic.top5 - sgd.top5) < 0.015


def test_sgd_is_what_keras_does(medium):
    """Same batches through a Dense layer, Keras' SGD and its cosine schedule."""
    train, test = medium[0].subset(np.arange(300)), medium[1]
    x, x_test = module._standardize(train.values, test.values)
    layer = keras.layers.Dense(10, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((60,)), layer])
    rate = min(0.1 * 128 / 256, module._largest_stable_rate(x))
    schedule = keras.optimizers.schedules.CosineDecay(rate, decay_steps=4 * 3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True), loss)
    for epoch in range(4):
        order = np.random.default_rng((7, epoch)).permutation(300)
        for batch in (order[:128], order[128:256], order[256:]):
            model.train_on_batch(x[batch], train.labels[batch])
    expected = np.argsort(-model.predict(x_test, verbose=0), axis=1)[:, :5]
    best, _, _ = module._fit_sgd(train, test, 4, 0.1, 128, 7, progress=False)
    np.testing.assert_array_equal(best, expected)


def test_sgd_settings_and_seed(medium):
    train, test = medium[0].subset(np.arange(500)), medium[1]
    runs = [
        evaluate.linear(None, train, test, solver="sgd", epochs=3, seed=seed) for seed in (0, 0, 1)
    ]
    assert runs[0] == runs[1]
    assert runs[0].settings["seed"] != runs[2].settings["seed"]
    assert runs[0].settings == {
        "solver": "sgd",
        "solver_requested": "sgd",
        "epochs": 3,
        "base_learning_rate": 0.1,
        "learning_rate": runs[0].settings["learning_rate"],
        "sgd_batch_size": 256,
        "momentum": 0.9,
        "nesterov": True,
        "schedule": "cosine",
        "weight_decay": 0.0,
        "seed": 0,
        "standardized": True,
        "batch_size": 256,
        "preprocessing": "unknown",
    }
    small = evaluate.linear(None, train, test, solver="sgd", epochs=1, sgd_batch_size=64)
    assert small.settings["learning_rate"] == pytest.approx(0.1 * 64 / 256)


def test_the_rate_is_lowered_for_correlated_features():
    rng = np.random.default_rng(0)
    common = rng.normal(size=(2000, 1))
    labels = rng.integers(0, 3, 2000)
    own = rng.normal(size=(2000, 400)) + 0.5 * np.eye(3, 400)[labels]
    values = 3 * common + own
    x, _ = module._standardize(values.astype(np.float32), values[:1].astype(np.float32))
    largest = np.linalg.eigvalsh(np.cov(x.T, bias=True))[-1]
    assert largest > 100
    assert module._largest_stable_rate(x) == pytest.approx(2 / largest, rel=0.02)
    features = evaluate.Features(values, labels)
    result = evaluate.linear(None, features, features, solver="sgd", epochs=2)
    assert result.settings["learning_rate"] == pytest.approx(2 / largest, rel=0.02)


def test_auto_takes_sgd_for_large_sets(digits, monkeypatch):
    monkeypatch.setattr(module, "LOGISTIC_LIMIT", 1437 * 64 - 1)
    result = evaluate.linear(None, *digits, epochs=10)
    assert result.settings["solver"] == "sgd"
    assert result.accuracy > 0.9
    monkeypatch.setattr(module, "LOGISTIC_LIMIT", 1437 * 64)
    assert evaluate.linear(None, *digits).settings["solver"] == "logistic"


def test_running_out_of_iterations_is_told_without_a_warning(digits):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = evaluate.linear(None, *digits, max_iter=2)
    assert not result.settings["converged"]
    assert result.settings["iterations"] == 2


@pytest.mark.parametrize("solver", ["logistic", "sgd"])
def test_scale_and_offset_of_features_do_not_matter(digits, solver):
    moved = [evaluate.Features(f.values * 1e-3 + 5, f.labels) for f in digits]
    settings = {"solver": solver, "epochs": 20}
    plain = evaluate.linear(None, *digits, **settings).accuracy
    assert evaluate.linear(None, *moved, **settings).accuracy == pytest.approx(plain, abs=0.01)


@pytest.mark.parametrize("solver", ["logistic", "sgd"])
def test_two_classes_and_odd_label_numbers(solver):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(100, 3))
    features = evaluate.Features(values, np.where(values[:, 0] > 0, 70, 9))
    result = evaluate.linear(None, features, features, solver=solver, epochs=30)
    assert result.accuracy > 0.9
    assert result.top5 is None


def test_sgd_leaves_policies_and_layer_names_alone(digits):
    keras.config.set_dtype_policy("mixed_float16")
    result = evaluate.linear(None, *digits, solver="sgd", epochs=2)
    assert result.accuracy > 0.8
    assert keras.layers.Dense(3).name == "dense"


def test_sgd_inside_a_strategy(digits, two_replicas):
    outside = evaluate.linear(None, *digits, solver="sgd", epochs=5)
    with two_replicas.scope():
        inside = evaluate.linear(None, *digits, solver="sgd", epochs=5)
    assert inside.accuracy == pytest.approx(outside.accuracy, abs=0.01)


@pytest.mark.parametrize("solver", ["logistic", "sgd"])
def test_constant_features(solver, caplog):
    features = evaluate.Features(np.full((40, 5), 0.1), np.arange(40) % 4)
    result = evaluate.linear(None, features, features, solver=solver, epochs=2)
    assert result.collapsed
    assert result.accuracy == 0.25
    assert "collapsed" in caplog.text


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"solver": "svm"}, "'auto', 'logistic' or 'sgd'.*svm"),
        ({"inverse_l2": 0}, "`inverse_l2` must be positive"),
        ({"max_iter": 0}, "`max_iter` must be positive"),
        ({"epochs": -1}, "`epochs` must be positive.*-1"),
        ({"learning_rate": 0}, "`learning_rate` must be positive"),
        ({"sgd_batch_size": 0}, "`sgd_batch_size` must be positive"),
    ],
)
def test_settings_out_of_range(digits, settings, match):
    with pytest.raises(ValueError, match=match):
        evaluate.linear(None, *digits, **settings)


@pytest.mark.parametrize("solver", ["logistic", "sgd"])
def test_one_class_is_an_error(solver):
    features = evaluate.Features(np.eye(3), np.full(3, 8))
    with pytest.raises(ValueError, match=r"at least two classes.*only class 8"):
        evaluate.linear(None, features, features, solver=solver)
