"""Validates labels and splits images by class."""

import logging
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

_LOG = logging.getLogger("keras_ssl")


def sort_names(names: Iterable[str]) -> list[str]:
    """Returns different class names in order: by name, or by number if all are numbers.

    Example:
        >>> sort_names(["10", "9", "9"])
        ['9', '10']
    """
    different = set(names)
    if all(name.isascii() and name.isdigit() for name in different):
        return sorted(different, key=lambda name: (int(name), name))
    return sorted(different)


def number_names(
    labels: object, class_names: list[str] | None, name: str
) -> tuple[Any, list[str] | None]:
    """Returns labels that are strings as the numbers of their classes, and the class names.

    Args:
        labels: array of strings, "" for an image without a label. Others are returned unchanged.
        class_names: the names of labels 0, 1, ...; `None` sorts the labels with `sort_names`.
        name: name of the source, for messages.

    Raises:
        ValueError: if `class_names` lacks a label.

    Example:
        >>> number_names(["dog", "cat", ""], None, "three images")
        (array([ 1,  0, -1]), ['cat', 'dog'])
    """
    values = np.asarray(labels)
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8")
    is_text = values.dtype.kind in "UT" or (
        values.dtype.kind == "O" and values.size and all(type(each) is str for each in values.flat)
    )
    if not is_text:
        return labels, class_names
    names = sort_names(str(each) for each in values.flat if each)
    if class_names is not None and (missing := [each for each in names if each not in class_names]):
        raise ValueError(
            f"`class_names` must contain every label. Received: {class_names} without "
            f"{', '.join(map(repr, missing[:8]))} for {name!r}"
        )
    names = names if class_names is None else class_names
    numbers = {"": -1, **{each: number for number, each in enumerate(names)}}
    found = np.array([numbers[str(each)] for each in values.flat], np.int64)
    return found.reshape(values.shape), names


def validate_labels(
    labels: object, size: int, class_names: list[str] | None, name: str
) -> np.ndarray | None:
    """Returns labels as (size,) int64, or `None` if no image has a label.

    Args:
        labels: (size,) or (size, 1) integers, with -1 for an image without a label; or `None`.
        size: number of images.
        class_names: the names of labels 0, 1, ..., if known.
        name: name of the source, for messages.

    Raises:
        TypeError: if the labels are not integers.
        ValueError: if their shape or number is wrong, a label is below -1, or a label has no class
            name.

    Example:
        >>> validate_labels([[3], [1]], 2, None, "two images")
        array([3, 1])
    """
    if labels is None:
        return None
    values = np.asarray(labels)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]  # the shape of labels in keras.datasets
    if values.ndim != 1:
        raise ValueError(
            "`labels` must be a list of integers, one per image. "
            f"Received: labels of shape {values.shape} for {name!r}"
        )
    if not np.issubdtype(values.dtype, np.integer):
        raise TypeError(
            f"`labels` must be integers or strings. Received: {values.dtype} for {name!r}"
        )
    if len(values) != size:
        raise ValueError(
            f"`labels` must have one label per image. Received: {len(values)} labels and {size} "
            f"images for {name!r}"
        )
    if values.min() < -1:
        raise ValueError(
            "`labels` must be 0 or more, or -1 for an image without a label. "
            f"Received: {values.min()} for {name!r}"
        )
    if class_names is not None and values.max() >= len(class_names):
        raise ValueError(
            f"`class_names` must name every label, 0 to {values.max()}. "
            f"Received: {len(class_names)} names for {name!r}"
        )
    return values.astype(np.int64) if values.max() >= 0 else None


def stratified_split(
    size: int,
    labels: np.ndarray | None,
    fraction: float,
    seed: int,
    name: str,
    class_names: list[str] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Splits the indices 0 to `size - 1` at random, in the same proportion for each class.

    A class with a single image is in the first part only, and a warning names it. If `fraction` of a
    small set has fewer images than there are classes, the second part gets one image of each class.

    Args:
        size: number of images.
        labels: (size,) labels, or `None` to split without regard to classes.
        fraction: fraction of the images in the second part, between 0 and 1.
        seed: seed of the random split.
        name: name of the source, for messages.
        class_names: names of labels 0, 1, ..., for messages.

    Returns:
        Two sorted arrays of int64 indices. Each index is in exactly one of them.

    Raises:
        ValueError: if `fraction` is out of range, or there are too few images to split.

    Example:
        >>> train, test = stratified_split(4, np.array([0, 0, 1, 1]), 0.5, 0, "four images")
        >>> len(train), len(test)
        (2, 2)
    """
    if not 0 < fraction < 1:
        raise ValueError(f"`fraction` must lie between 0 and 1. Received: fraction={fraction}")
    from sklearn.model_selection import train_test_split  # slow to import and rarely needed

    divided, single = np.arange(size), np.empty(0, np.int64)
    test_size: float | int = fraction
    if labels is not None:
        classes, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
        is_single = counts[numbers] == 1
        divided, single = np.flatnonzero(~is_single), np.flatnonzero(is_single)
        if single.size:
            lonely = [str(number) for number in classes[counts == 1]]
            if class_names is not None:
                lonely = [class_names[number] for number in classes[counts == 1]]
            _LOG.warning(
                "A single image of its class stays in the first part of the split of %r; the second "
                "part has no image of: %s",
                name,
                ", ".join(lonely[:8]) + f" and {len(lonely) - 8} more" * (len(lonely) > 8),
            )
        many = int((counts > 1).sum())
        if math.ceil(len(divided) * fraction) < many <= len(divided) // 2:
            test_size = many  # one image of each class is the least
    try:
        train, test = train_test_split(
            divided,
            test_size=test_size,
            random_state=seed,
            stratify=None if labels is None else labels[divided],
        )
    except ValueError as error:
        classes_count = 1 if labels is None else len(np.unique(labels))
        raise ValueError(
            "Both parts of a split must hold images, and images of every class that has several. "
            f"Received: fraction={fraction} for {name!r}, which has {size} images of {classes_count} "
            f"classes. {error}"
        ) from error
    return np.sort(np.concatenate([train, single])), np.sort(test)
