"""Nearest-neighbour accuracy while training: the one number that the loss does not tell."""

import keras

from keras_ssl.evaluate.features import Encoder
from keras_ssl.evaluate.fingerprint import unchanged
from keras_ssl.evaluate.inputs import Images, check_labels
from keras_ssl.evaluate.knn import knn
from keras_ssl.evaluate.result import Result

__all__ = ["KNNMonitor"]


class KNNMonitor(keras.callbacks.Callback):
    """Measures the kNN accuracy of `model.backbone` (or of a model without one) between epochs.

    The value is written into the epoch's logs as "knn", so that Keras' `History`, `TensorBoard`
    and `CSVLogger` record it. Callbacks see it if they come after this one in the list, which Keras'
    own history always does; `CSVLogger` takes its columns from the first epoch, and callbacks that
    save or stop by "knn" expect it in every epoch: both need `every=1`. Training goes on as if the
    monitor were not there: same weights, same random numbers.

    Args:
        train: labelled images that vote; anything that `keras_ssl.evaluate.extract` takes. The
            images of the pretraining set are the usual choice, a part of them the quick one.
        test: labelled images that are classified.
        every: epochs from one measurement to the next, positive; the first after `every` epochs.
        k: see `keras_ssl.evaluate.knn`.
        temperature: see `keras_ssl.evaluate.knn`.
        batch_size: images per forward pass.

    Attributes:
        history: the `keras_ssl.evaluate.Result` of each epoch (from 0) that was measured.

    Raises:
        ValueError: if a set lacks labels or a number is not positive.

    Example:
        ```python
        monitor = KNNMonitor(keras_ssl.data.digits("train"), keras_ssl.data.digits("test"), every=10)
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
        self.every = every
        self.k = k
        self.temperature = temperature
        self.batch_size = batch_size
        self.history: dict[int, Result] = {}
        self._encoder: Encoder | None = None

    def on_epoch_end(self, epoch: int, logs: dict | None = None):
        """Measures after every `every`th epoch."""
        if (epoch + 1) % self.every:
            return
        backbone = getattr(self.model, "backbone", self.model)
        if self._encoder is None or self._encoder.backbone is not backbone:
            self._encoder = Encoder(backbone)  # kept, so that its function is traced once
        with unchanged(backbone):
            train = self._encoder(self.train, self.batch_size, name="train")
            test = self._encoder(self.test, self.batch_size, name="test")
        result = knn(None, train, test, self.k, self.temperature, self.batch_size)
        self.history[epoch] = result
        if logs is not None:
            logs["knn"] = result.accuracy
