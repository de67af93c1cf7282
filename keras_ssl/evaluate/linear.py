"""The linear probe: a linear classifier trained on frozen features."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ssl.data.progress import with_bar
from keras_ssl.evaluate.features import Features, labelled_pair
from keras_ssl.evaluate.inputs import Images
from keras_ssl.evaluate.knn import is_collapsed
from keras_ssl.evaluate.logistic import fit
from keras_ssl.evaluate.result import Result, best_classes, score

__all__ = ["LOGISTIC_LIMIT", "fit_logistic", "linear"]

# Feature values (images x dim) up to which `solver="auto"` uses logistic regression: 65,536 x 512.
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
    """Measures the accuracy of a linear classifier trained on frozen features.

    The features are computed once, without random augmentation, and standardized with the mean and
    standard deviation of the training set.

    Args:
        backbone: built `keras.Model`, images to (batch, dim); `None` if both sets are `Features`.
        train: labeled images to fit on; anything that `extract` takes.
        test: labeled images to test on; anything that `extract` takes.
        solver: "logistic" (multinomial logistic regression, with the same minimum as
            scikit-learn's), "sgd" (Nesterov momentum 0.9, cosine schedule without warm-up, no
            weight decay), or "auto" ("logistic" if the training set has at most `LOGISTIC_LIMIT`
            feature values, otherwise "sgd").
        inverse_l2: for "logistic": inverse strength of the L2 penalty, positive; scikit-learn's
            `C`. The default is ours (scikit-learn's is 1): docs/evaluation.md has the measurements.
        max_iter: for "logistic": maximum number of iterations. `Result.settings` says whether the
            solver converged.
        epochs: for "sgd": passes over the training features.
        learning_rate: for "sgd": peak learning rate for a batch size of 256. It is scaled by
            `sgd_batch_size / 256`, and reduced if the features are so correlated that the steps
            would overshoot.
        sgd_batch_size: for "sgd": features per step, at most the size of the training set.
        seed: for "sgd": seed of the order of the features.
        batch_size: images per forward pass. Does not affect the result.
        augmentation: see `extract`.
        progress: whether to show progress bars.

    Returns:
        `Result`; its settings include only those of the solver that was used.

    Raises:
        ValueError: if a set lacks labels, the training set has a single class, a setting is out of
            range, or for the reasons given in `extract`.
        RuntimeError: if a variable of the backbone changed.

    Example:
        >>> values = np.random.default_rng(0).normal(size=(60, 8))
        >>> data = Features(values, (values[:, 0] > 0).astype(int))
        >>> linear(None, data, data).accuracy > 0.9
        True

    Source: for "sgd", Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual
    Representations", appendix B.6 (rate 0.1 * batch / 256, 90 epochs; batch size 4096 there), without
    its crops and flips.
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
    settings = {
        "solver": chosen,
        "solver_requested": solver,
        **settings,
        "standardized": True,
        "batch_size": batch_size,
        "preprocessing": train.preprocessing,
    }
    collapsed = is_collapsed(train)
    names = train.class_names
    return score("linear", best, test.targets, classes, names, len(train), settings, collapsed)


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
    """Fits a logistic regression.

    Returns:
        The best classes of each test image (n_test, <= 5), the number of classes, and the settings.
    """
    names, targets = _classes(train)
    x_train, x_test = _standardize(train.values, test.values)
    classifier = fit(x_train, targets, len(names), inverse_l2, max_iter)
    settings = {
        "inverse_l2": inverse_l2,
        "max_iter": max_iter,
        "iterations": classifier.iterations,
        "converged": classifier.converged,
    }
    logits = x_test @ classifier.weights + classifier.bias
    best = names[best_classes(logits)]
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
    for epoch in with_bar(range(epochs), "Linear classifier", progress):
        order = np.random.default_rng((seed, epoch)).permutation(len(x_train))
        for number, start in enumerate(range(0, len(order), size)):
            done = (epoch * steps + number) / (epochs * steps)
            step_rate = rate * 0.5 * (1 + np.cos(np.pi * done))
            batch = order[start : start + size]
            state = _sgd_step(features, labels, batch, np.float32(step_rate), *state)
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
    logits = np.concatenate([(block @ weights + bias).numpy() for block in blocks])
    return names[best_classes(logits)], len(np.union1d(names, test.targets)), settings


@tf.function(reduce_retracing=True, autograph=False)
def _sgd_step(features, labels, batch, rate, weights, bias, weights_momentum, bias_momentum):
    """Returns the state after one SGD step on the features with indices `batch`.

    Without variables and `fit`, the probe also runs in the scope of strategies where `fit` of a plain
    model fails. The gradient of softmax cross-entropy is written out.
    """
    x = tf.gather(features, batch)  # (size, dim)
    error = tf.nn.softmax(x @ weights + bias) - tf.gather(labels, batch)  # (size, classes)
    error /= tf.cast(tf.shape(x)[0], tf.float32)
    # Nesterov momentum as in Sutskever et al. 2013 and in Keras.
    step_w = -rate * tf.matmul(x, error, transpose_a=True)  # (dim, classes)
    step_b = -rate * tf.reduce_sum(error, axis=0)
    weights_momentum = _MOMENTUM * weights_momentum + step_w
    bias_momentum = _MOMENTUM * bias_momentum + step_b
    weights += _MOMENTUM * weights_momentum + step_w
    bias += _MOMENTUM * bias_momentum + step_b
    return weights, bias, weights_momentum, bias_momentum


def _largest_stable_rate(features: np.ndarray) -> float:
    """Returns 2 / (largest eigenvalue of the features' covariance), estimated on a sample.

    The curvature of softmax cross-entropy is at most half that eigenvalue, so longer steps may
    overshoot. Raw pixels are strongly correlated and need this limit: on CIFAR-10, a rate of 0.1
    costs them six points of accuracy.
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
            "`train` must have at least two classes for a linear classifier. Received: only class "
            f"{names[0]}."
        )
    return names, targets


def _standardize(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = np.asarray(train.mean(axis=0, dtype=np.float64))
    x_train, x_test = train - mean.astype(np.float32), test - mean.astype(np.float32)
    squares: np.ndarray = np.einsum("nd,nd->d", x_train, x_train, dtype=np.float64)
    std = np.sqrt(squares / len(train))
    std[std <= 1e-6 * np.abs(mean)] = 1  # constant up to rounding: do not amplify it
    x_train /= std.astype(np.float32)
    x_test /= std.astype(np.float32)
    return x_train, x_test
