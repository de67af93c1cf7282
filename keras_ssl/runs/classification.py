"""Measures a fine-tuned or distilled classifier on labeled images."""

import logging
from collections.abc import Sequence

import keras
import numpy as np
from rich.console import Console

from keras_ssl import evaluate
from keras_ssl.data import Source
from keras_ssl.data.classes import join_names, match_classes
from keras_ssl.evaluate.result import (
    Result,
    accuracies,
    best_classes,
    class_accuracies,
    mean_accuracy,
)

_LOG = logging.getLogger("keras_ssl")


def measure_classifier(
    network: keras.Model, class_names: Sequence[str] | None, test: Source, batch_size: int = 256
) -> Result | None:
    """Returns the accuracy of a classifier on labeled images.

    Classes are matched by name, or by number if the network or the images have no class names. Images
    of classes that the network does not have are left out, and the "keras_ssl" logger says so.

    Args:
        network: images to scores, `(batch, classes)`.
        class_names: names of the classes.
        test: labeled images.
        batch_size: images per forward pass.

    Returns:
        The result, or `None` if the network has none of the classes.
    """
    classes = network.output_shape[-1]
    labels = np.asarray(test.labels)
    found = match_classes(np.arange(classes), class_names, labels, test.class_names)
    if found.untrained and not (found.labels >= 0).any():
        _LOG.warning(
            "The scores of the network are not measured: it has no class of %r. It has: %s",
            test.name,
            join_names(class_names or [str(number) for number in range(classes)]),
        )
        return None
    found.check("the network's classes", test.name)
    kept = np.flatnonzero(found.labels >= 0)
    chosen = test if len(kept) == len(test) else test.subset(kept)
    scores = evaluate.extract(network, chosen, batch_size).values  # (n, classes)
    best, labels = best_classes(scores), found.labels[kept]
    top1, top5 = accuracies(best, labels, classes)
    names = list(class_names) if class_names else None
    per_class = class_accuracies(best, labels, names)
    mean = mean_accuracy(per_class)
    return Result("classifier", top1, top5, 0, len(kept), mean_per_class=mean, per_class=per_class)


def show_classifier(result: Result, console: Console):
    """Prints the accuracy of a classifier in one line."""
    top5 = "" if result.top5 is None else f", top 5 {100 * result.top5:.1f}%"
    console.print(
        f"Classifier: {100 * result.accuracy:.1f}% of {result.test_size:,} test images{top5}, "
        f"mean per class {100 * (result.mean_per_class or 0):.1f}%"
    )
