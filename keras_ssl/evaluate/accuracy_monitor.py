"""Measures a classifier's test accuracy during training."""

from collections.abc import Sequence

import keras

from keras_ssl.evaluate.features import Encoder
from keras_ssl.evaluate.inputs import Images, check_classes
from keras_ssl.evaluate.result import accuracies, best_classes, class_accuracies, mean_accuracy


class AccuracyMonitor(keras.callbacks.Callback):
    """Measures the test accuracy every few epochs and records the metrics of all epochs.

    Args:
        network: maps images to the logits of classes 0, 1, ...
        test: labeled images whose labels are numbered as the outputs of the network.
        every: number of epochs between measurements.
        epochs: total number of epochs. The last one is always measured.
        class_names: names of the classes.

    Attributes:
        history: one dictionary per epoch with "epoch", "loss", "train_accuracy" and, if measured,
            "accuracy" and "mean_per_class".
        accuracy: latest top-1 accuracy, 0 to 1.
        top5: latest top-5 accuracy, 0 to 1; `None` if there are fewer than six classes.
        per_class: latest accuracy of each class that has test images, 0 to 1.
        test_size: number of test images.
    """

    def __init__(
        self,
        network: keras.Model,
        test: Images,
        every: int,
        epochs: int,
        class_names: Sequence[str] | None = None,
    ):
        super().__init__()
        self.test = test
        self._logits = Encoder(network)  # traced once
        self.every = every
        self.epochs = epochs
        self.class_names = class_names
        self.history: list[dict[str, float]] = []
        self.accuracy = 0.0
        self.top5: float | None = None
        self.per_class: dict[str, float] = {}
        self.test_size = 0
        self._measured_epoch = 0

    def on_epoch_end(self, epoch, logs=None):
        """Records the epoch; if a measurement is due, adds the test accuracies to `logs`."""
        logs = {} if logs is None else logs
        line = {"epoch": epoch + 1, "loss": float(logs.get("loss", float("nan")))}
        if "accuracy" in logs:
            line["train_accuracy"] = float(logs["accuracy"])
        if (epoch + 1) % self.every == 0 or epoch + 1 == self.epochs:
            measured = self._measure(epoch + 1)
            logs["test_accuracy"] = measured["accuracy"]
            logs["test_mean_per_class"] = measured["mean_per_class"]
            line |= measured
        self.history.append(line)

    def measure_last_epoch(self):
        """Measures the network after the last epoch, unless `on_epoch_end` has.

        It has not if another process trained the last epoch and stopped before the measurement.
        """
        if self._measured_epoch != self.epochs:
            self._measure(self.epochs)

    def complete(self, history: Sequence[dict[str, float]] | None) -> list[dict[str, float]]:
        """Returns the values of all epochs; the last one has those of the latest measurement.

        Args:
            history: values of all epochs from a run directory; `None` for those of this process.
        """
        lines = [dict(line) for line in (self.history if history is None else history)]
        if not lines or lines[-1]["epoch"] != self.epochs:
            lines.append({"epoch": self.epochs})
        lines[-1] |= self._latest()
        return lines

    def _measure(self, epoch: int) -> dict[str, float]:
        logits = self._logits(self.test, batch_size=256, progress=False)
        best = best_classes(logits.values)
        classes = logits.values.shape[1]
        check_classes(logits.targets, classes, "test")
        self.accuracy, self.top5 = accuracies(best, logits.targets, classes)
        self.per_class = class_accuracies(best, logits.targets, self.class_names)
        self.test_size = len(logits)
        self._measured_epoch = epoch
        return self._latest()

    def _latest(self) -> dict[str, float]:
        mean = mean_accuracy(self.per_class)
        return {"accuracy": self.accuracy, "mean_per_class": mean}
