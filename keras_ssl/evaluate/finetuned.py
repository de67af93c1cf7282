"""The result of fine-tuning."""

from dataclasses import dataclass, field
from typing import Any

import keras

from keras_ssl.evaluate.result import Result


@dataclass(frozen=True)
class Finetuned(Result):
    """The result of fine-tuning; `accuracy` is the test accuracy after the last epoch.

    Attributes:
        best_accuracy: highest test accuracy measured after any epoch, 0 to 1. It is selected on the
            test images, so report `accuracy` instead.
        history: one dictionary per epoch with "epoch", "loss", "train_accuracy" and, if measured,
            "accuracy" and "mean_per_class".
        labelled: indices of the training images whose labels were used.
        network: `keras.Model` from images to the logits of classes 0, 1, ..., `(batch, classes)`.
        class_names: names of these classes; `None` if the training images have none.
    """

    best_accuracy: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    labelled: list[int] = field(default_factory=list)
    network: keras.Model | None = None
    class_names: list[str] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns all attributes except the network as a JSON-serializable dictionary."""
        return {name: value for name, value in vars(self).items() if name != "network"}
