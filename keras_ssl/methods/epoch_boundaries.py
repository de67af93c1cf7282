"""Makes epochs of `fit` end with passes over the data, also in runs resumed in mid-epoch."""

from typing import Any

import keras
import tensorflow as tf

_END_OF_PASS = "end of pass"  # truthy, but distinct from the value that other callbacks set


class EpochBoundaries(keras.callbacks.Callback):
    """Ends the first epoch of `fit` early if its data start in the middle of a pass.

    `Learner.fit` adds this callback, because Keras takes the same number of batches in each epoch
    from an endless data set. It also counts the batches that are left in the epoch, so that an
    execution of several steps does not read beyond its end.

    Args:
        steps: batches in a pass over the data.
        skipped: batches of the first pass that were already taken.

    Attributes:
        left: batches left in the current pass.
    """

    def __init__(self, steps: int, skipped: int = 0):
        super().__init__()
        self.steps = steps
        self.left = steps - skipped
        self._is_first = skipped > 0

    def on_train_batch_end(self, batch, logs=None):
        """Counts the batches, and ends a first epoch that is shorter."""
        self.left -= min(self.left, self.model.steps_per_execution)
        if self.left == 0 and self._is_first:
            self.model.stop_training = self.model.stop_training or _END_OF_PASS

    def on_epoch_end(self, epoch, logs=None):
        """Starts the next pass."""
        self.left = self.steps
        self._is_first = False
        if self.model.stop_training == _END_OF_PASS:
            self.model.stop_training = False


def with_callback(model: keras.Model, callbacks: Any, extra: keras.callbacks.Callback) -> Any:
    """Returns `callbacks`, in any form that `fit` accepts, with one more callback."""
    if not isinstance(callbacks, keras.callbacks.CallbackList):
        return [*tf.nest.flatten(callbacks or []), extra]
    callbacks.callbacks.append(extra)
    extra.set_params(callbacks.params)
    extra.set_model(model)
    return callbacks
