"""Multinomial logistic regression with an L2 penalty, to its minimum."""

from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

__all__ = ["Classifier", "minimum"]

# No derivative is larger at the minimum that is returned, in the coordinates of the search.
_TOLERANCE = 1e-5
# Feature values up to which float64 costs little. Above, the rounding of float32 is averaged over
# thousands of images.
_FLOAT64_LIMIT = 2**22


@dataclass(frozen=True)
class Classifier:
    """A linear classifier and how it was found.

    Attributes:
        weights: (dim, classes).
        bias: (classes,).
        iterations: of L-BFGS.
        converged: whether the gradient became as small as it should.
    """

    weights: np.ndarray
    bias: np.ndarray
    iterations: int
    converged: bool


def minimum(
    features: np.ndarray, targets: np.ndarray, classes: int, inverse_l2: float, max_iter: int
) -> Classifier:
    """Returns the classifier of least mean cross-entropy + |weights|^2 / (2 * inverse_l2 * n).

    Correlated features make a long, narrow valley of this, through which L-BFGS takes hundreds of
    steps. So it searches for V in weights = S V, where S S^T is the inverse of the curvature at the
    start: there all directions are about equally steep.

    Args:
        features: (n, dim) float32, standardised.
        targets: (n,) integers below `classes`.
        classes: two or more. Of two, their difference is penalised, as in scikit-learn: twice what
            weights that are each other's negative would pay.
        inverse_l2: positive; scikit-learn's `C`.
        max_iter: most iterations.

    Source: the minimum is that of `sklearn.linear_model.LogisticRegression`; Nocedal and Wright 2006,
    "Numerical Optimization", section 7.2 for L-BFGS, 5.1 for the change of variables.
    """
    from scipy.optimize import minimize

    n, dim = features.shape
    x = np.ones((n, dim + 1), np.float64 if features.size <= _FLOAT64_LIMIT else np.float32)
    x[:, :-1] = features  # and 1 for the bias, which is the last of the weights and free
    penalties = np.full((dim + 1, 1), (2 if classes == 2 else 1) / (inverse_l2 * n))
    penalties[-1] = 0

    # One thread: steps are short, and threads of BLAS mostly wait for each other (many times slower
    # where other processes use the cores).
    with threadpool_limits(1):
        # With fewer images than features it would cost more than the steps that it saves.
        scale = _inverse_root_of_curvature(x, classes, penalties) if n > dim else None

        def weights_at(position: np.ndarray) -> np.ndarray:
            matrix = position.reshape(dim + 1, classes)
            return matrix if scale is None else scale @ matrix

        def objective(position: np.ndarray) -> tuple[float, np.ndarray]:
            weights = weights_at(position)
            loss, gradient = _cross_entropy(x, targets, weights)
            loss += float(np.sum(penalties * weights**2)) / 2
            gradient += penalties * weights
            return loss, (gradient if scale is None else scale.T @ gradient).ravel()

        found = minimize(
            objective,
            np.zeros((dim + 1) * classes),
            method="L-BFGS-B",
            jac=True,
            options={"maxiter": max_iter, "maxls": 50, "gtol": _TOLERANCE, "ftol": 0},
        )
        weights = weights_at(found.x)
    return Classifier(weights[:-1], weights[-1], int(found.nit), found.status == 0)


def _inverse_root_of_curvature(x: np.ndarray, classes: int, penalties: np.ndarray) -> np.ndarray:
    """Returns S, (dim + 1, dim + 1): S S^T is the inverse of the curvature at weights of zero.

    That is the covariance of the features over the number of classes, and the penalty.
    """
    curvature = (x.T @ x).astype(np.float64) / (len(x) * classes)
    # A little more keeps the root real where features depend on each other.
    curvature[np.diag_indices_from(curvature)] += penalties[:, 0] + 1e-4 / classes
    return np.linalg.inv(np.linalg.cholesky(curvature)).T


def _cross_entropy(
    x: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> tuple[float, np.ndarray]:
    """Returns the mean cross-entropy and its gradient, (dim + 1, classes), in float64."""
    rows = np.arange(len(x))
    logits = x @ weights.astype(x.dtype)  # (n, classes)
    logits -= logits.max(axis=1, keepdims=True)
    of_targets = logits[rows, targets]
    softmax = np.exp(logits, out=logits)
    sums = softmax.sum(axis=1, keepdims=True)
    loss = np.mean(np.log(sums[:, 0]) - of_targets, dtype=np.float64)
    softmax /= sums
    softmax[rows, targets] -= 1  # now the derivatives of the losses by the logits
    return float(loss), (softmax.T @ x).T.astype(np.float64) / len(x)
