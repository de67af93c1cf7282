"""Matches the classes of two sets of labeled images by name.

A label is the number of a class within its own set: two folders with different subfolders number their
classes differently. Labels of one set are renumbered before they are compared with those of another.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from keras_ssl.data.source import Source, Subset

__all__ = [
    "ClassMatch",
    "class_name",
    "join_labels",
    "join_names",
    "match_classes",
    "match_source",
    "number_labels",
]

_LOG = logging.getLogger("keras_ssl")
_MOST_NAMES = 8  # class names listed in a message


@dataclass(frozen=True)
class ClassMatch:
    """The labels of a test set, renumbered as in the training set.

    Attributes:
        labels: (n,) int64; -1 for images without a label and for classes that the training set lacks.
        untrained: name and image count of each class that only the test set has.
        untested: names of the classes that only the training set has.
    """

    labels: np.ndarray
    untrained: dict[str, int]
    untested: list[str]

    def check(self, train: str, test: str, strict: bool = False):
        """Checks that the two sets can be compared, and logs which test images are left out.

        Args:
            train: name of the training set, for messages.
            test: name of the test set.
            strict: refuse any class that the training set lacks.

        Raises:
            ValueError: if no class is shared, or if `strict` and the training set lacks a class.
        """
        if self.untrained and not (self.labels >= 0).any():
            raise ValueError(
                "Training and test images must have classes in common. Received: "
                f"{join_names(self.untrained)} only in the test images {test!r}, "
                f"{join_names(self.untested)} only in the training images {train!r}"
            )
        if self.untrained and strict:
            raise ValueError(
                "Every class of the test images must be a class of the network. Received: "
                f"{join_names(self.untrained)} in {test!r}, which the training images {train!r} lack"
            )
        if self.untrained:
            _LOG.warning(
                "%d images of %r are left out of the test, because the training images lack their "
                "class: %s",
                sum(self.untrained.values()),
                test,
                join_names(self.untrained),
            )


def match_classes(
    train_labels: np.ndarray,
    train_names: Sequence[str] | None,
    test_labels: np.ndarray,
    test_names: Sequence[str] | None,
) -> ClassMatch:
    """Matches classes by name, or by number if one of the sets has no class names.

    Args:
        train_labels: (m,) integers; -1 for images without a label.
        train_names: names of the training labels 0, 1, ..., or `None`.
        test_labels: (n,) integers; -1 for images without a label.
        test_names: names of the test labels 0, 1, ..., or `None`.

    Example:
        >>> match_classes([0, 1], ["cat", "dog"], [0, 1, 1], ["cow", "dog"]).labels
        array([-1,  1,  1])
    """
    names = train_names if test_names is None else test_names
    by_number = train_names is None or test_names is None

    def key(number: int, own_names: Sequence[str] | None) -> int | str:
        return number if by_number or own_names is None else own_names[number]

    test_labels = np.asarray(test_labels, np.int64)
    trained = {key(number, train_names): number for number in _classes(train_labels)}
    tested = {key(number, test_names): number for number in _classes(test_labels)}
    renumbered = np.full(max(tested.values(), default=-1) + 2, -1, np.int64)  # the last is for -1
    for each, number in tested.items():
        renumbered[number] = trained.get(each, -1)
    untrained = {
        class_name(number, names): int(np.sum(test_labels == number))
        for each, number in tested.items()
        if each not in trained
    }
    untested = [
        class_name(number, train_names) for each, number in trained.items() if each not in tested
    ]
    return ClassMatch(renumbered[test_labels], untrained, untested)


def match_source(train: Source, test: Source, strict: bool = False) -> Source:
    """Returns the test images with their labels renumbered as in the training images.

    Classes are matched by name, or by number if one of the sources has no class names. Test images of
    classes that the training images lack are left out, and the "keras_ssl" logger names the classes. If
    `train` or `test` has no labels, or all numbers agree, `test` itself is returned. The labels of
    streamed sources are not read; sources with the same class names are taken to agree.

    Args:
        train: labeled training images.
        test: labeled test images.
        strict: refuse classes that the training images lack: a network that has one output per training
            class cannot predict them.

    Raises:
        ValueError: if no class is shared, or if `strict` and a class is missing in the training images.
        TypeError: if the class names differ and `test` is streamed.

    Example:
        >>> train, test = image_folder("photos/train"), image_folder("photos/val")
        >>> match_source(train, test).class_names == train.class_names
        True
    """
    same_names = test.class_names in (train.class_names, None) or train.class_names is None
    if same_names and not (train.random_access and test.random_access):
        return test
    if train.labels is None or test.labels is None:
        return test
    if (train.class_names is None) != (test.class_names is None):
        _LOG.warning(
            "The classes of %r and %r are matched by number, because only one of them has class names",
            train.name,
            test.name,
        )
    found = match_classes(train.labels, train.class_names, test.labels, test.class_names)
    found.check(train.name, test.name, strict)
    if found.untested and not same_names:
        _LOG.warning(
            "The test images %r have no image of these classes of the training images: %s",
            test.name,
            join_names(found.untested),
        )
    if np.array_equal(found.labels, test.labels):
        return test
    kept = np.flatnonzero((found.labels >= 0) | (np.asarray(test.labels) < 0))
    return _Renumbered(test, found.labels, train.class_names, kept)


def number_labels(source: Source, class_names: Sequence[str] | None, classes: int) -> Source:
    """Returns the images with labels in the numbers of a network's classes; -1 for other classes.

    The "keras_ssl" logger says how many images lose their label.

    Args:
        source: labeled images.
        class_names: names of the network's classes; `None` to compare numbers.
        classes: number of the network's classes.

    Raises:
        ValueError: if no label is one of the classes.
        TypeError: if labels change and the source is streamed.

    Example:
        >>> number_labels(image_folder("photos"), ["dog", "cat"], classes=2).class_names
        ['dog', 'cat']
    """
    labels = np.asarray(source.labels, np.int64)
    found = match_classes(np.arange(classes), class_names, labels, source.class_names)
    if not (found.labels >= 0).any():
        raise ValueError(
            f"Some labels must be classes of the network, which has {classes}: "
            f"{join_names(class_names or [str(number) for number in range(classes)])}. Received: "
            f"{join_names(found.untrained)} in {source.name!r}"
        )
    if found.untrained:
        _LOG.warning(
            "The labels of %d images of %r are not used, because the network lacks their class: %s",
            sum(found.untrained.values()),
            source.name,
            join_names(found.untrained),
        )
    if np.array_equal(found.labels, labels):
        return source
    names = None if class_names is None else list(class_names)
    return _Renumbered(source, found.labels, names, np.arange(len(source)))


def join_labels(sources: Sequence[Source]) -> tuple[np.ndarray | None, list[str] | None]:
    """Returns the labels of several sources, one after the other, and the names of all classes.

    Classes are joined by name, in the order in which they first occur. If only some of the labeled
    sources have class names, numbers cannot be compared, and there are no labels.

    Returns:
        (n,) int64 labels, with -1 for images without a label; and the class names. Either may be
        `None`.

    Example:
        >>> join_labels([image_folder("photos/train"), image_folder("photos/val")])[1]
        ['cat', 'dog']
    """
    labeled = [source for source in sources if source.labels is not None]
    named = [source for source in labeled if source.class_names is not None]
    if not labeled or len(named) not in (0, len(labeled)):
        return None, None
    names = list(dict.fromkeys(name for source in named for name in source.class_names or ()))
    parts = []
    for source in sources:
        labels = np.full(len(source), -1, np.int64) if source.labels is None else source.labels
        if source.class_names is not None and source.labels is not None:
            numbers = np.array([*map(names.index, source.class_names), -1])  # the last is for -1
            labels = numbers[labels]
        parts.append(labels)
    return np.concatenate(parts), names or None


class _Renumbered(Subset):
    """Some images of a source, with other labels."""

    def __init__(
        self,
        source: Source,
        labels: np.ndarray,
        class_names: list[str] | None,
        kept: np.ndarray,
    ):
        super().__init__(source, kept)
        if len(kept) == len(source):
            self.name = source.name
        self._labels = labels[kept]
        self.class_names = class_names


def class_name(number: int, names: Sequence[str] | None) -> str:
    """Returns the name of a class, or "class 7" if it has none."""
    return names[number] if names is not None and number < len(names) else f"class {number}"


def join_names(names: Iterable[str]) -> str:
    """Returns at most eight names, separated by commas, and how many more there are."""
    listed = list(names)
    more = len(listed) - _MOST_NAMES
    return ", ".join(listed[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _classes(labels: np.ndarray) -> list[int]:
    values = np.unique(np.asarray(labels, np.int64))
    return [int(value) for value in values if value >= 0]
