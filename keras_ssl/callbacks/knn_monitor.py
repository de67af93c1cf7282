"""Measures k-nearest-neighbor accuracy during training."""

from collections.abc import Callable

import keras
import numpy as np

from keras_ssl.data import Source
from keras_ssl.data.classes import match_source
from keras_ssl.evaluate.features import Encoder
from keras_ssl.evaluate.fingerprint import unchanged
from keras_ssl.evaluate.inputs import Images, check_labels
from keras_ssl.evaluate.knn import knn
from keras_ssl.evaluate.result import Result

__all__ = ["KNNMonitor"]


class KNNMonitor(keras.callbacks.Callback):
    """Measures the kNN accuracy of `model.backbone` at the end of epochs.

    A model without the attribute `backbone` is measured itself. The accuracy is added to the
    epoch's logs as "knn", so that Keras' `History`, `TensorBoard` and `CSVLogger` record it. Only
    callbacks after this one in the list see it; Keras' own `History` always does. `CSVLogger`, and
    callbacks that save or stop based on "knn", need it in every epoch: use `every=1`. Weights and
    random numbers of the training are the same as without the monitor.

    Args:
        train: labeled images that vote, in any form that `keras_ssl.evaluate.extract` accepts.
            Usually the pretraining images; a subset of them is faster.
        test: labeled images to classify. Classes are matched by name; images of classes that `train`
            lacks are left out.
        every: epochs between measurements, positive; the first is after `every` epochs.
        k: see `keras_ssl.evaluate.knn`.
        temperature: see `keras_ssl.evaluate.knn`.
        batch_size: images per forward pass.
        augmentation: see `keras_ssl.evaluate.extract`. A backbone that takes images of any size gets
            whole images without it, which must then have one size.

    Attributes:
        history: maps each measured epoch (counted from 0) to its `keras_ssl.evaluate.Result`.

    Raises:
        ValueError: if `train` or `test` has no labels, or a number is not positive.

    Example:
        ```python
        train, test = keras_ssl.data.digits("train"), keras_ssl.data.digits("test")
        monitor = KNNMonitor(train, test, every=10)
        model.fit(views, epochs=100, callbacks=[monitor, keras.callbacks.TensorBoard("logs")])
        print(monitor.history[99])
        ```

    Source: the protocol is that of `keras_ssl.evaluate.knn`.
    """

    def __init__(
        self,
        train: Images,
        test: Images,
        every: int = 1,
        k: int = 200,
        temperature: float = 0.1,
        batch_size: int = 256,
        augmentation: Callable | None = None,
    ):
        super().__init__()
        check_labels(train, "train")
        check_labels(test, "test")
        numbers = {"every": every, "k": k, "temperature": temperature, "batch_size": batch_size}
        for name, value in numbers.items():
            if not value > 0:
                raise ValueError(f"`{name}` must be positive. Received: {name}={value}.")
        self.train = train
        self.test = test
        if isinstance(train, Source) and isinstance(test, Source):
            self.test = match_source(train, test)  # fails, or warns, before training
        self.every = every
        self.k = k
        self.temperature = temperature
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.history: dict[int, Result] = {}
        self._encoder: Encoder | None = None

    def on_epoch_end(self, epoch: int, logs: dict | None = None):
        """Measures after every `every` epochs."""
        if (epoch + 1) % self.every:
            return
        backbone = getattr(self.model, "backbone", self.model)
        if self._encoder is None or self._encoder.backbone is not backbone:
            self._encoder = Encoder(
                backbone, self.augmentation
            )  # kept, so that its function is traced once
        with unchanged(backbone):
            train = self._encoder(self.train, self.batch_size, name="train")
            test = self._encoder(self.test, self.batch_size, name="test")
        if self.history:  # `knn` named the images that are left out at the first measurement
            test = test.subset(np.flatnonzero(np.isin(test.targets, train.targets)))
        result = knn(None, train, test, self.k, self.temperature, self.batch_size)
        self.history[epoch] = result
        if logs is not None:
            logs["knn"] = result.accuracy
