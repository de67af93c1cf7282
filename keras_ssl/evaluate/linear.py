"""A linear classifier on frozen features: how much of the class can be read off linearly."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.progress import track

from keras_ssl.evaluate.features import Features, labelled_pair
from keras_ssl.evaluate.inputs import Images
from keras_ssl.evaluate.knn import is_collapsed
from keras_ssl.evaluate.logistic import minimum
from keras_ssl.evaluate.result import Result, accuracies, best_classes

__all__ = ["LOGISTIC_LIMIT", "fit_logistic", "linear"]

# Numbers (images x dim) up to which `solver="auto"` takes logistic regression: 65,536 x 512.
LOGISTIC_LIMIT = 2**25
_MOMENTUM = 0.9


def linear(
    backbone: keras.Model | None,
    train: Images,
    test: Images,
    solver: str = "auto",
    inverse_l2: float = 0.1,
    max_iter: int = 1000,
    epochs: int = 90,
    learning_rate: float = 0.1,
    sgd_batch_size: int = 256,
    seed: int = 0,
    batch_size: int = 256,
    augmentation: Callable | None = None,
    progress: bool = False,
) -> Result:
    """Returns the accuracy of a linear classifier that is trained on frozen features.

    The features are computed once, without random augmentation, and standardised with the mean and
    the standard deviation of the training set.

    Args:
        backbone: built `keras.Model`, images to (batch, dim); `None` where both sets are
            `Features`.
        train: labelled images to fit on; anything that `extract` takes.
        test: labelled images to test on; anything that `extract` takes.
        solver: "logistic" (multinomial logistic regression, to the minimum that scikit-learn's
            goes to), "sgd" (Nesterov momentum 0.9, cosine schedule without warm-up, no weight
            decay), or "auto": "logistic" up to `LOGISTIC_LIMIT` feature values in the training set.
        inverse_l2: of "logistic", positive: the inverse strength of the L2 penalty, scikit-learn's
            `C`. The default is ours (scikit-learn's is 1): docs/evaluation.md has the measurements.
        max_iter: of "logistic": most iterations. Whether it converged is in the settings.
        epochs: of "sgd": passes over the training features.
        learning_rate: of "sgd": the rate at a batch of 256, scaled by `sgd_batch_size / 256`, and
            lowered where the features are so correlated that its steps would overshoot.
        sgd_batch_size: of "sgd": features per step, at most all.
        seed: of "sgd": the order of the features.
        batch_size: images per forward pass; it does not change the result.
        augmentation: see `extract`.
        progress: whether to show progress bars.

    Returns:
        `Result`, with the solver's settings only.

    Raises:
        ValueError: if a set lacks labels, the training set has a single class, a setting is out of
            range, or for the reasons of `extract`.
        RuntimeError: if a variable of the backbone changed.

    Example:
        >>> values = np.random.default_rng(0).normal(size=(60, 8))
        >>> data = Features(values, (values[:, 0] > 0).astype(int))
        >>> linear(None, data, data).accuracy > 0.9
        True

    Source: Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual
    Representations", appendix B.6, for "sgd" (rate 0.1 * batch / 256, 90 epochs, batch 4096 there);
    its crops and flips are left out.
    """
    _check(solver, inverse_l2, max_iter, epochs, learning_rate, sgd_batch_size)
    train, test = labelled_pair(backbone, train, test, batch_size, augmentation, progress)
    if solver == "auto":
        chosen = "logistic" if train.values.size <= LOGISTIC_LIMIT else "sgd"
    else:
        chosen = solver
    if chosen == "logistic":
        best, classes, settings = fit_logistic(train, test, inverse_l2, max_iter)
    else:
        best, classes, settings = _fit_sgd(
            train, test, epochs, learning_rate, sgd_batch_size, seed, progress
        )
    accuracy, top5 = accuracies(best, test.targets, classes)
    settings = {
        "solver": chosen,
        "solver_requested": solver,
        **settings,
        "standardized": True,
        "batch_size": batch_size,
        "preprocessing": train.preprocessing,
    }
    return Result("linear", accuracy, top5, len(train), len(test), settings, is_collapsed(train))


def _check(
    solver: str,
    inverse_l2: float,
    max_iter: int,
    epochs: int,
    learning_rate: float,
    sgd_batch_size: int,
) -> None:
    if solver not in ("auto", "logistic", "sgd"):
        raise ValueError(
            f"`solver` must be 'auto', 'logistic' or 'sgd'. Received: solver={solver!r}."
        )
    numbers = {
        "inverse_l2": inverse_l2,
        "max_iter": max_iter,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "sgd_batch_size": sgd_batch_size,
    }
    for name, value in numbers.items():
        if not value > 0:
            raise ValueError(f"`{name}` must be positive. Received: {name}={value}.")


def fit_logistic(
    train: Features, test: Features, inverse_l2: float, max_iter: int
) -> tuple[np.ndarray, int, dict[str, Any]]:
    """Fits logistic regression; returns best classes (n_test, <= 5), their number, settings."""
    names, targets = _classes(train)
    x_train, x_test = _standardize(train.values, test.values)
    found = minimum(x_train, targets, len(names), inverse_l2, max_iter)
    settings = {
        "inverse_l2": inverse_l2,
        "max_iter": max_iter,
        "iterations": found.iterations,
        "converged": found.converged,
    }
    scores = x_test @ found.weights + found.bias
    best = names[best_classes(scores)]
    return best, len(np.union1d(names, test.targets)), settings


def _fit_sgd(
    train: Features,
    test: Features,
    epochs: int,
    learning_rate: float,
    sgd_batch_size: int,
    seed: int,
    progress: bool,
) -> tuple[np.ndarray, int, dict[str, Any]]:
    names, targets = _classes(train)
    x_train, x_test = _standardize(train.values, test.values)
    size = min(sgd_batch_size, len(x_train))
    steps = -(-len(x_train) // size)
    rate = min(learning_rate * size / 256, _largest_stable_rate(x_train))
    features, labels = tf.constant(x_train), tf.one_hot(targets, len(names))
    state = [tf.zeros((x_train.shape[1], len(names))), tf.zeros(len(names))]  # weights, bias
    state += [tf.zeros_like(value) for value in state]  # and their momentum
    for epoch in track(range(epochs), "Linear classifier", disable=not progress):
        order = np.random.default_rng((seed, epoch)).permutation(len(x_train))
        for number, start in enumerate(range(0, len(order), size)):
            progressed = (epoch * steps + number) / (epochs * steps)
            at_rate = rate * 0.5 * (1 + np.cos(np.pi * progressed))
            batch = order[start : start + size]
            state = _sgd_step(features, labels, batch, np.float32(at_rate), *state)
    settings = {
        "epochs": epochs,
        "base_learning_rate": learning_rate,
        "learning_rate": rate,
        "sgd_batch_size": size,
        "momentum": _MOMENTUM,
        "nesterov": True,
        "schedule": "cosine",
        "weight_decay": 0.0,
        "seed": seed,
    }
    weights, bias = state[:2]
    blocks = [x_test[start : start + 8192] for start in range(0, len(x_test), 8192)]
    scores = np.concatenate([(block @ weights + bias).numpy() for block in blocks])
    return names[best_classes(scores)], len(np.union1d(names, test.targets)), settings


@tf.function(reduce_retracing=True, autograph=False)
def _sgd_step(features, labels, batch, rate, weights, bias, weights_momentum, bias_momentum):
    """Returns the state after one step on the features of the indices `batch`.

    No variables and no `fit`: so the probe runs within any distribution strategy's scope, where the
    `fit` of a plain model may not. The gradient of softmax cross-entropy is short enough to write.
    """
    x = tf.gather(features, batch)  # (size, dim)
    error = tf.nn.softmax(x @ weights + bias) - tf.gather(labels, batch)  # (size, classes)
    error /= tf.cast(tf.shape(x)[0], tf.float32)
    # Nesterov's momentum in the form of Sutskever et al. 2013, as Keras has it.
    step_w = -rate * tf.matmul(x, error, transpose_a=True)  # (dim, classes)
    step_b = -rate * tf.reduce_sum(error, axis=0)
    weights_momentum = _MOMENTUM * weights_momentum + step_w
    bias_momentum = _MOMENTUM * bias_momentum + step_b
    weights += _MOMENTUM * weights_momentum + step_w
    bias += _MOMENTUM * bias_momentum + step_b
    return weights, bias, weights_momentum, bias_momentum


def _largest_stable_rate(features: np.ndarray) -> float:
    """Returns 2 / the largest eigenvalue of the features' covariance, from a sample of images.

    The curvature of softmax cross-entropy is at most half that eigenvalue, so that a longer step
    overshoots. Raw pixels, which all brighten together, need it: on CIFAR-10 a rate of 0.1 costs
    them six points.
    """
    sample = features[:: -(-len(features) // 8192)]
    direction = np.asarray(np.random.default_rng(0).normal(size=sample.shape[1]), np.float32)
    eigenvalue = 0.0
    for _ in range(20):  # power iteration
        direction /= max(float(np.linalg.norm(direction)), 1e-12)
        direction = sample.T @ (sample @ direction) / np.float32(len(sample))  # (dim,)
        eigenvalue = float(np.linalg.norm(direction))
    return 2 / max(eigenvalue, 1.0)


def _classes(train: Features) -> tuple[np.ndarray, np.ndarray]:
    names, targets = np.unique(train.targets, return_inverse=True)
    if len(names) < 2:
        raise ValueError(
            "A linear classifier needs at least two classes in `train`. Received: only class "
            f"{names[0]}."
        )
    return names, targets


def _standardize(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = np.asarray(train.mean(axis=0, dtype=np.float64))
    x_train, x_test = train - mean.astype(np.float32), test - mean.astype(np.float32)
    squares: np.ndarray = np.einsum("nd,nd->d", x_train, x_train, dtype=np.float64)
    std = np.sqrt(squares / len(train))
    std[std <= 1e-6 * np.abs(mean)] = 1  # constant but for rounding: nothing to blow up
    x_train /= std.astype(np.float32)
    x_test /= std.astype(np.float32)
    return x_train, x_test
