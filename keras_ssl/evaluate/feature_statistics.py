"""Statistics of features that detect collapse without labels."""

import numpy as np

__all__ = ["alignment", "effective_rank", "feature_std", "main_direction_share", "uniformity"]


def feature_std(features: np.ndarray) -> float:
    """Returns the spread of the feature directions: 0 if all are equal, 1 if evenly spread.

    This is the per-dimension standard deviation of the L2-normalized features, averaged over
    dimensions and multiplied by sqrt(dim).

    Args:
        features: (n, dim).

    Example:
        >>> feature_std(np.ones((10, 4)))
        0.0

    Source: Chen and He 2020, "Exploring Simple Siamese Representation Learning", section 4.1, which
    does not multiply by sqrt(dim).
    """
    z = _normalize(features)
    return float(z.std(axis=0).mean() * np.sqrt(z.shape[1]))


def alignment(features_1: np.ndarray, features_2: np.ndarray) -> float:
    """Returns the mean squared distance between two views' L2-normalized features, 0 (equal) to 4.

    Args:
        features_1: features of the first views, (n, dim).
        features_2: features of the second views of the same images, (n, dim).

    Example:
        >>> alignment(np.eye(2), np.eye(2)[::-1])
        2.0

    Source: Wang and Isola 2020, "Understanding Contrastive Representation Learning through Alignment
    and Uniformity on the Hypersphere", section 4.1, with alpha = 2.
    """
    distances = np.square(_normalize(features_1) - _normalize(features_2)).sum(axis=1)  # (n,)
    return float(distances.mean())


def uniformity(features: np.ndarray) -> float:
    """Returns log(mean(exp(-2 d^2))), with d the distance between two images' normalized features.

    The mean is over all pairs. The result is 0 if all features are equal, and lower the more evenly
    the features are spread; about -4 is the best.

    Args:
        features: features of n >= 2 different images, (n, dim).

    Raises:
        ValueError: if there are fewer than two images.

    Example:
        >>> uniformity(np.ones((10, 4)))
        0.0

    Source: Wang and Isola 2020, section 4.1.2, with t = 2.
    """
    if len(features) < 2:
        raise ValueError(
            f"`features` must hold at least two images. Received: {len(features)} images."
        )
    z = _normalize(features)
    squares = np.square(z).sum(axis=1)  # 1, or 0 for an all-zero feature
    squared_distances = np.maximum(squares[:, None] + squares - 2.0 * z @ z.T, 0.0)  # (n, n)
    squared_distances = squared_distances[np.triu_indices(len(z), k=1)]  # (n * (n - 1) / 2,)
    return float(np.log(np.exp(-2.0 * squared_distances).mean()))


def effective_rank(features: np.ndarray) -> float:
    """Returns the effective number of directions: the exponential of the spectrum's entropy.

    The spectrum is the singular values divided by their sum. The result is 1 if all features point
    the same way, at most min(n, dim), and 0 if all features are zero. The mean is not subtracted, so
    it counts as a direction.

    Args:
        features: (n, dim).

    Example:
        >>> round(effective_rank(np.eye(4)), 6)
        4.0

    Source: Roy and Vetterli 2007, "The effective rank"; Garrido et al. 2023, "RankMe", equation 1.
    """
    singular_values = np.sqrt(_squared_singular_values(np.asarray(features, np.float64)))
    total = singular_values.sum()
    if total == 0:
        return 0.0
    shares = singular_values[singular_values > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


def main_direction_share(features: np.ndarray) -> float:
    """Returns the share of the variance along the first principal direction, at most 1.

    It is 1 if all features lie on a line, or do not vary at all.

    Args:
        features: (n, dim).

    Example:
        >>> main_direction_share(np.outer(np.arange(5.0), [1.0, 2.0, 3.0])) > 0.9999
        True
    """
    values = np.asarray(features, np.float64)
    variances = _squared_singular_values(values - values.mean(axis=0))
    total = variances.sum()
    return float(variances.max() / total) if total > 0 else 1.0


def _normalize(features: np.ndarray) -> np.ndarray:
    values = np.asarray(features, np.float64)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.where(lengths > 0, lengths, 1.0)  # zero vectors stay zero


def _squared_singular_values(values: np.ndarray) -> np.ndarray:
    # The eigenvalues of the smaller Gram matrix: much faster than an SVD of the matrix itself.
    product = values @ values.T if values.shape[0] < values.shape[1] else values.T @ values
    return np.maximum(np.linalg.eigvalsh(product), 0.0)
