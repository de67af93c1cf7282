"""The accuracy of a classifier on test images, measured while it trains."""

import keras

from keras_ssl.evaluate.features import Encoder
from keras_ssl.evaluate.inputs import Images
from keras_ssl.evaluate.result import accuracies, best_classes


class AccuracyMonitor(keras.callbacks.Callback):
    """Measures a classifier on test images after every few epochs and keeps a report of all epochs.

    Args:
        network: images to the scores of classes 0, 1, ...
        test: labelled images.
        every: epochs from one measurement to the next.
        epochs: number of the last epoch, which is always measured.

    Attributes:
        history: for each epoch "epoch", "loss" and "train_accuracy", and "accuracy" where measured.
        accuracy: the latest, 0 to 1.
        top5: likewise; `None` where there are fewer than six classes.
        test_size: number of test images.
    """

    def __init__(self, network: keras.Model, test: Images, every: int, epochs: int):
        super().__init__()
        self.test = test
        self._scores = Encoder(network)  # traced once
        self.every = every
        self.epochs = epochs
        self.history: list[dict[str, float]] = []
        self.accuracy = 0.0
        self.top5: float | None = None
        self.test_size = 0

    def on_epoch_end(self, epoch, logs=None):
        """Measures, where it is time, and adds the accuracy to the values of the epoch."""
        logs = {} if logs is None else logs
        line = {"epoch": epoch + 1, "loss": float(logs.get("loss", float("nan")))}
        if "accuracy" in logs:
            line["train_accuracy"] = float(logs["accuracy"])
        if (epoch + 1) % self.every == 0 or epoch + 1 == self.epochs:
            found = self._scores(self.test, batch_size=256, progress=False)
            best = best_classes(found.values)
            self.accuracy, self.top5 = accuracies(best, found.targets, found.values.shape[1])
            self.test_size = len(found)
            line["accuracy"] = logs["test_accuracy"] = self.accuracy
        self.history.append(line)
