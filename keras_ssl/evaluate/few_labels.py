"""Accuracy with a few labeled images per class, over repeated random draws."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_ssl.data.progress import with_bar
from keras_ssl.evaluate.features import labelled_pair
from keras_ssl.evaluate.inputs import Images
from keras_ssl.evaluate.knn import is_collapsed, vote
from keras_ssl.evaluate.linear import fit_logistic
from keras_ssl.evaluate.result import FewLabels, accuracies, class_accuracies, mean_accuracy

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
    """Measures the accuracy with a few labeled images per class.

    Each draw takes `per_class` random images of each class from `train`, fits a classifier, and
    tests it on all of `test`. The features are computed once. A draw depends only on `seed` and the
    labels of `train`, so encoders are compared on the same draws, and a draw of 5 images per class
    contains the draw of 1.

    Args:
        backbone: built `keras.Model`, images to (batch, dim); `None` if both sets are `Features`.
        train: labeled images to draw from; anything that `extract` takes.
        test: labeled images to test on; anything that `extract` takes.
        per_class: numbers of labeled images per class; there is one result for each.
        draws: number of independent draws.
        seed: seed of the draws, not negative.
        protocol: "knn" or "linear" (logistic regression).
        k: number of neighbors that vote, for "knn". If there are fewer labeled images, all of them
            vote; with up to 200 labels the vote is then a kernel density estimate per class.
        temperature: for "knn", see `knn`.
        inverse_l2: for "linear", see `linear`.
        max_iter: for "linear", see `linear`.
        batch_size: images per forward pass. Does not affect the result.
        augmentation: see `extract`.
        progress: whether to show progress bars.

    Returns:
        One `FewLabels` for each entry of `per_class`.

    Raises:
        ValueError: if a class has too few images, a setting is out of range, or for the reasons
            given in `knn` and `linear`.
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
        draw_accuracies, per_class_means, converged = [], [], []
        settings = dict[str, Any]()
        title = f"{protocol}, {count} label{'s' * (count != 1)} per class"
        for number in with_bar(range(draws), title, progress):
            subset = train.subset(draw(train.targets, count, seed, number))
            if protocol == "knn":
                best, classes = vote(subset, test, k, temperature)
                settings = {
                    "k": min(k, len(subset)),
                    "k_requested": k,
                    "temperature": temperature,
                }
            else:
                best, classes, settings = fit_logistic(subset, test, inverse_l2, max_iter)
                converged.append(settings.pop("converged"))
                settings.pop("iterations")  # differs between draws
                settings |= {"solver": "logistic", "converged": all(converged)}
            draw_accuracies.append(accuracies(best, test.targets, classes)[0])
            per_class_means.append(mean_accuracy(class_accuracies(best, test.targets)))
        settings |= {
            "draws": draws,
            "seed": seed,
            "batch_size": batch_size,
            "preprocessing": train.preprocessing,
        }
        results.append(
            FewLabels(
                protocol,
                count,
                draw_accuracies,
                len(subset),
                len(test),
                settings,
                collapsed,
                per_class_means,
            )
        )
    return results


def draw(labels: np.ndarray, per_class: int, seed: int, number: int) -> np.ndarray:
    """Returns the sorted indices of a random, class-balanced draw of labeled images.

    Args:
        labels: integers, (n,).
        per_class: images per class.
        seed: seed shared by all draws, not negative.
        number: index of this draw, from 0.

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
            f"Every class must have at least {per_class} labeled images. Received: "
            f"{sizes.min()} of class {names[sizes.argmin()]}."
        )
    rng = np.random.default_rng((seed, number))
    chosen = [rng.permutation(np.flatnonzero(labels == name))[:per_class] for name in names]
    return np.sort(np.concatenate(chosen))
