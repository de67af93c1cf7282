"""Multinomial logistic regression with an L2 penalty, fitted with L-BFGS."""

from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

__all__ = ["Classifier", "fit"]

# Largest component of the gradient at convergence, in the preconditioned coordinates.
_TOLERANCE = 1e-5
# Feature values up to which float64 is cheap. Above this, float32 is used: its rounding errors average
# out over thousands of images.
_FLOAT64_LIMIT = 2**22


@dataclass(frozen=True)
class Classifier:
    """A fitted linear classifier.

    Attributes:
        weights: (dim, classes).
        bias: (classes,).
        iterations: number of L-BFGS iterations.
        converged: whether the gradient fell below the tolerance.
    """

    weights: np.ndarray
    bias: np.ndarray
    iterations: int
    converged: bool


def fit(
    features: np.ndarray, targets: np.ndarray, classes: int, inverse_l2: float, max_iter: int
) -> Classifier:
    """Minimizes mean cross-entropy + |weights|^2 / (2 * inverse_l2 * n).

    With correlated features this objective is badly conditioned and L-BFGS needs hundreds of steps.
    The search is therefore preconditioned: it optimizes V in weights = S V, where S S^T is the inverse
    of the curvature at zero weights.

    Args:
        features: standardized float32 features, (n, dim).
        targets: integers below `classes`, (n,).
        classes: number of classes, at least 2. With two classes the penalty is doubled, so that it
            equals scikit-learn's penalty on the difference of the two weight vectors.
        inverse_l2: inverse strength of the L2 penalty, positive; scikit-learn's `C`.
        max_iter: maximum number of iterations.

    Source: same minimum as `sklearn.linear_model.LogisticRegression`; Nocedal and Wright 2006,
    "Numerical Optimization", section 7.2 for L-BFGS, section 5.1 for the preconditioning.
    """
    from scipy.optimize import minimize

    n, dim = features.shape
    x = np.ones((n, dim + 1), np.float64 if features.size <= _FLOAT64_LIMIT else np.float32)
    x[:, :-1] = features  # the last column is 1, for the bias, which is not penalized
    penalties = np.full((dim + 1, 1), (2 if classes == 2 else 1) / (inverse_l2 * n))
    penalties[-1] = 0

    # One thread: the steps are short and BLAS threads mostly wait for each other (many times slower
    # if other processes use the cores).
    with threadpool_limits(1):
        # With fewer images than features, the factorization costs more than the steps it saves.
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

        solution = minimize(
            objective,
            np.zeros((dim + 1) * classes),
            method="L-BFGS-B",
            jac=True,
            options={"maxiter": max_iter, "maxls": 50, "gtol": _TOLERANCE, "ftol": 0},
        )
        weights = weights_at(solution.x)
    return Classifier(weights[:-1], weights[-1], int(solution.nit), solution.status == 0)


def _inverse_root_of_curvature(x: np.ndarray, classes: int, penalties: np.ndarray) -> np.ndarray:
    """Returns S, (dim + 1, dim + 1), where S S^T is the inverse of the curvature at zero weights.

    The curvature is approximated by the features' covariance divided by the number of classes, plus
    the penalty.
    """
    curvature = (x.T @ x).astype(np.float64) / (len(x) * classes)
    # The small constant keeps the matrix positive definite if features are linearly dependent.
    curvature[np.diag_indices_from(curvature)] += penalties[:, 0] + 1e-4 / classes
    return np.linalg.inv(np.linalg.cholesky(curvature)).T


def _cross_entropy(
    x: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> tuple[float, np.ndarray]:
    """Returns the mean cross-entropy and its gradient, (dim + 1, classes), in float64."""
    rows = np.arange(len(x))
    logits = x @ weights.astype(x.dtype)  # (n, classes)
    logits -= logits.max(axis=1, keepdims=True)
    target_logits = logits[rows, targets]
    softmax = np.exp(logits, out=logits)
    sums = softmax.sum(axis=1, keepdims=True)
    loss = np.mean(np.log(sums[:, 0]) - target_logits, dtype=np.float64)
    softmax /= sums
    softmax[rows, targets] -= 1  # now the gradient with respect to the logits
    return float(loss), (softmax.T @ x).T.astype(np.float64) / len(x)
