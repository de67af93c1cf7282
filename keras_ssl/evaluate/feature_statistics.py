"""How features are spread, from the features alone: the numbers that tell a collapse."""

import numpy as np

__all__ = ["alignment", "effective_rank", "feature_std", "main_direction_share", "uniformity"]


def feature_std(features: np.ndarray) -> float:
    """Returns how far the directions of features differ: 0 if they do not, 1 if evenly spread.

    The standard deviation of each dimension of the L2-normalised features, averaged over the
    dimensions, times the square root of their number.

    Args:
        features: (n, dim).

    Example:
        >>> feature_std(np.ones((10, 4)))
        0.0

    Source: Chen and He 2020, "Exploring Simple Siamese Representation Learning", section 4.1, which
    leaves it without the square root.
    """
    z = _normalised(features)
    return float(z.std(axis=0).mean() * np.sqrt(z.shape[1]))


def alignment(features_1: np.ndarray, features_2: np.ndarray) -> float:
    """Returns the mean squared distance of the L2-normalised features of two views: 0 (equal) to 4.

    Args:
        features_1: (n, dim), of the first views.
        features_2: (n, dim), of the second views of the same images.

    Example:
        >>> alignment(np.eye(2), np.eye(2)[::-1])
        2.0

    Source: Wang and Isola 2020, "Understanding Contrastive Representation Learning through Alignment
    and Uniformity on the Hypersphere", section 4.1, with alpha = 2.
    """
    distances = np.square(_normalised(features_1) - _normalised(features_2)).sum(axis=1)  # (n,)
    return float(distances.mean())


def uniformity(features: np.ndarray) -> float:
    """Returns log mean exp(-2 d^2) over all pairs of images, d the distance of normalised features.

    0 if the features of all images are equal; the more evenly spread the lower, about -4 at best.

    Args:
        features: (n, dim) of n different images, at least 2.

    Raises:
        ValueError: if there is no pair.

    Example:
        >>> uniformity(np.ones((10, 4)))
        0.0

    Source: Wang and Isola 2020, section 4.1.2, with t = 2.
    """
    if len(features) < 2:
        raise ValueError(
            f"Uniformity needs the features of two images. Received: {len(features)} images."
        )
    z = _normalised(features)
    squares = np.square(z).sum(axis=1)  # 1, but 0 where a feature is zero
    squared_distances = np.maximum(squares[:, None] + squares - 2.0 * z @ z.T, 0.0)  # (n, n)
    squared_distances = squared_distances[np.triu_indices(len(z), k=1)]  # (n * (n - 1) / 2,)
    return float(np.log(np.exp(-2.0 * squared_distances).mean()))


def effective_rank(features: np.ndarray) -> float:
    """Returns how many directions the features use: the exponential of their spectrum's entropy.

    The spectrum are the singular values, divided by their sum. 1 if all features point one way, at
    most the smaller of n and dim, and 0 for features of zeros. The common mean of the features counts
    as a direction.

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
    """Returns the share of the features' variance that lies along one direction: 1 if on a line.

    Features that do not vary have a share of 1.

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


def _normalised(features: np.ndarray) -> np.ndarray:
    values = np.asarray(features, np.float64)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.where(lengths > 0, lengths, 1.0)  # what is zero stays so


def _squared_singular_values(values: np.ndarray) -> np.ndarray:
    # Of the smaller of the two products: much faster than the decomposition of the matrix itself.
    product = values @ values.T if values.shape[0] < values.shape[1] else values.T @ values
    return np.maximum(np.linalg.eigvalsh(product), 0.0)
