"""Accuracy from a few labelled images per class, over repeated draws."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_ssl.evaluate.features import labelled_pair
from keras_ssl.evaluate.inputs import Images
from keras_ssl.evaluate.knn import is_collapsed, vote
from keras_ssl.evaluate.linear import fit_logistic
from keras_ssl.evaluate.result import FewLabels, accuracies

__all__ = ["draw", "few_labels"]


def few_labels(
    backbone: keras.Model | None,
    train: Images,
    test: Images,
    per_class: Sequence[int] = (1, 5, 10),
    draws: int = 10,
    seed: int = 0,
    protocol: str = "knn",
    k: int = 200,
    temperature: float = 0.1,
    inverse_l2: float = 0.1,
    max_iter: int = 1000,
    batch_size: int = 256,
    augmentation: Callable | None = None,
    progress: bool = False,
) -> list[FewLabels]:
    """Returns the accuracies with a few labelled images per class, one result per number.

    Each draw takes that many images of each class from `train`, fits, and is tested on the whole of
    `test`. The features are computed once. A draw depends on `seed` and the labels of `train` only,
    so that encoders are compared on the same draws, and a draw of 5 images per class contains those
    of 1.

    Args:
        backbone: built `keras.Model`, images to (batch, dim); `None` where both sets are
            `Features`.
        train: labelled images to draw from; anything that `extract` takes.
        test: labelled images to test on; anything that `extract` takes.
        per_class: labelled images per class, one result for each.
        draws: independent draws.
        seed: of the draws, not negative.
        protocol: "knn" or "linear" (logistic regression).
        k: of "knn": neighbours that vote; all labelled images where there are fewer, so that up to
            200 labels the vote is a kernel estimate of each class.
        temperature: of "knn", see `knn`.
        inverse_l2: of "linear", see `linear`.
        max_iter: of "linear", see `linear`.
        batch_size: images per forward pass; it does not change the result.
        augmentation: see `extract`.
        progress: whether to show progress bars.

    Raises:
        ValueError: if a class has fewer images than asked for, a setting is out of range, or for
            the reasons of `knn` and `linear`.
        RuntimeError: if a variable of the backbone changed.

    Example:
        >>> from keras_ssl.evaluate import Features
        >>> data = Features(np.eye(4).repeat(5, axis=0), np.arange(4).repeat(5))
        >>> few_labels(None, data, data, per_class=(1,), draws=3)[0].mean
        1.0
    """
    if protocol not in ("knn", "linear"):
        raise ValueError(f"`protocol` must be 'knn' or 'linear'. Received: protocol={protocol!r}.")
    if draws < 1:
        raise ValueError(f"`draws` must be positive. Received: draws={draws}.")
    train, test = labelled_pair(backbone, train, test, batch_size, augmentation, progress)
    collapsed = is_collapsed(train)
    results = []
    for count in per_class:
        found, converged, settings = [], [], dict[str, Any]()
        for number in range(draws):
            shown = train.subset(draw(train.targets, count, seed, number))
            if protocol == "knn":
                best, classes = vote(shown, test, k, temperature)
                settings = {
                    "k": min(k, len(shown)),
                    "k_requested": k,
                    "temperature": temperature,
                }
            else:
                best, classes, settings = fit_logistic(shown, test, inverse_l2, max_iter)
                converged.append(settings.pop("converged"))
                settings.pop("iterations")  # it differs from draw to draw
                settings |= {"solver": "logistic", "converged": all(converged)}
            found.append(accuracies(best, test.targets, classes)[0])
        settings |= {
            "draws": draws,
            "seed": seed,
            "batch_size": batch_size,
            "preprocessing": train.preprocessing,
        }
        results.append(
            FewLabels(protocol, count, found, len(shown), len(test), settings, collapsed)
        )
    return results


def draw(labels: np.ndarray, per_class: int, seed: int, number: int) -> np.ndarray:
    """Returns the indices of a balanced draw of labelled images, ascending.

    Args:
        labels: (n,) integers.
        per_class: images of each class.
        seed: of all draws, not negative.
        number: of this draw, from 0.

    Raises:
        ValueError: if `per_class` is not positive or a class has fewer images.

    Example:
        >>> draw(np.array([0, 0, 1, 1]), per_class=2, seed=0, number=0)
        array([0, 1, 2, 3])
    """
    if per_class < 1:
        raise ValueError(f"`per_class` must be positive. Received: per_class={per_class}.")
    names, sizes = np.unique(labels, return_counts=True)
    if sizes.min() < per_class:
        raise ValueError(
            f"Every class must have at least {per_class} labelled images. Received: "
            f"{sizes.min()} of class {names[sizes.argmin()]}."
        )
    rng = np.random.default_rng((seed, number))
    chosen = [rng.permutation(np.flatnonzero(labels == name))[:per_class] for name in names]
    return np.sort(np.concatenate(chosen))
