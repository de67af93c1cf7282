import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from keras_ssl.evaluate import logistic


def sets(n, dim, classes, seed=0):
    """Returns correlated, standardized features and targets that depend on them in part."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, n)
    mix = rng.normal(size=(dim, dim)) * np.geomspace(1, 0.02, dim)[:, None]
    values = (rng.normal(size=(classes, dim))[targets] + 2 * rng.normal(size=(n, dim))) @ mix
    values = (values - values.mean(axis=0)) / values.std(axis=0)
    return values.astype(np.float32), targets


def value_and_gradients(x, targets, weights, bias, inverse_l2):
    """Computes the objective and its gradients, one image at a time."""
    value, by_weights, by_bias = 0.0, np.zeros_like(weights), np.zeros_like(bias)
    for features, target in zip(x.astype(np.float64), targets, strict=True):
        p = np.exp(features @ weights + bias)
        p /= p.sum()
        value -= np.log(p[target])
        p[target] -= 1
        by_weights += np.outer(features, p)
        by_bias += p
    n = len(x)
    value = value / n + np.sum(weights**2) / (2 * inverse_l2 * n)
    return value, by_weights / n + weights / (inverse_l2 * n), by_bias / n


@pytest.mark.parametrize("inverse_l2", [0.01, 1.0])
def test_the_solution_minimizes_the_objective(inverse_l2):
    x, targets = sets(300, 20, 5)
    found = logistic.fit(x, targets, 5, inverse_l2, 1000)
    assert found.converged
    best, *gradients = value_and_gradients(x, targets, found.weights, found.bias, inverse_l2)
    assert max(np.abs(each).max() for each in gradients) < 2e-5
    rng = np.random.default_rng(1)
    for _ in range(3):
        off = found.weights + 0.01 * rng.normal(size=found.weights.shape)
        assert value_and_gradients(x, targets, off, found.bias, inverse_l2)[0] > best


@pytest.mark.parametrize(
    ("n", "dim", "classes", "inverse_l2"),
    [
        (500, 30, 6, 0.1),
        (500, 30, 6, 100.0),
        (400, 30, 2, 0.1),  # scikit-learn has a single weight vector
        (40, 60, 4, 0.1),  # more features than images
        (500, 20, 50, 0.1),
    ],
)
def test_weights_and_predictions_match_scikit_learn(n, dim, classes, inverse_l2):
    x, targets = sets(n, dim, classes)
    found = logistic.fit(x, targets, classes, inverse_l2, 1000)
    model = LogisticRegression(C=inverse_l2, max_iter=100_000, tol=1e-9)
    model.fit(x.astype(np.float64), targets)
    weights, bias = found.weights, found.bias - found.bias.mean()
    if classes == 2:
        weights, bias = weights[:, 1:] - weights[:, :1], bias[1:] - bias[:1]
    np.testing.assert_allclose(weights, model.coef_.T, atol=1e-3 * np.abs(model.coef_).max())
    expected = model.intercept_ - (model.intercept_.mean() if classes > 2 else 0)
    np.testing.assert_allclose(bias, expected, atol=2e-3)
    others, _ = sets(2000, dim, classes, seed=1)
    predicted = (others @ found.weights + found.bias).argmax(axis=1)
    assert np.mean(predicted == model.predict(others)) > 0.999


def test_float32_gives_the_same_weights(monkeypatch):
    x, targets = sets(3000, 40, 10)
    exact = logistic.fit(x, targets, 10, 0.1, 1000)
    monkeypatch.setattr(logistic, "_FLOAT64_LIMIT", 0)
    found = logistic.fit(x, targets, 10, 0.1, 1000)
    assert found.converged
    np.testing.assert_allclose(found.weights, exact.weights, atol=1e-3)


def test_preconditioning_saves_steps_on_correlated_features(monkeypatch):
    x, targets = sets(3000, 30, 6)
    steps = logistic.fit(x, targets, 6, 1.0, 1000).iterations
    monkeypatch.setattr(logistic, "_inverse_root_of_curvature", lambda x, *_: np.eye(x.shape[1]))
    assert steps < logistic.fit(x, targets, 6, 1.0, 1000).iterations / 4


def test_linearly_dependent_and_constant_features():
    x, targets = sets(500, 20, 4)
    doubled = np.concatenate([x, x, np.zeros((500, 3), np.float32)], axis=1)
    found = logistic.fit(doubled, targets, 4, 1e6, 1000)
    assert found.converged
    assert np.isfinite(found.weights).all()
    np.testing.assert_allclose(found.weights[:20], found.weights[20:40], atol=1e-3)


def test_running_out_of_iterations_is_reported():
    x, targets = sets(300, 20, 5)
    found = logistic.fit(x, targets, 5, 0.1, max_iter=3)
    assert found.iterations == 3
    assert not found.converged
