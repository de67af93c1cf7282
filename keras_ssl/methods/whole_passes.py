"""An epoch of `fit` is a pass over the data, also where a run goes on in the middle of one."""

from typing import Any

import keras
import tensorflow as tf

_END_OF_PASS = "end of pass"  # true, and told apart from what others set


class WholePasses(keras.callbacks.Callback):
    """Ends the first epoch early where its data begin in the middle; `SelfSupervised.fit` adds it.

    Keras counts the batches of each epoch from one stream that has no end. It also says how many
    batches the next execution may take, so that several steps per execution do not read across the end
    of an epoch.

    Args:
        steps: batches in a pass over the data.
        skipped: batches of the first pass that were taken before.
    """

    def __init__(self, steps: int, skipped: int = 0):
        super().__init__()
        self.steps = steps
        self.left = steps - skipped
        self._is_first = skipped > 0

    def on_train_batch_end(self, batch, logs=None):
        """Counts, and ends a first pass that was shorter."""
        self.left -= min(self.left, self.model.steps_per_execution)
        if self.left == 0 and self._is_first:
            self.model.stop_training = self.model.stop_training or _END_OF_PASS

    def on_epoch_end(self, epoch, logs=None):
        """Goes on with the next pass."""
        self.left = self.steps
        self._is_first = False
        if self.model.stop_training == _END_OF_PASS:
            self.model.stop_training = False


def with_callback(model: keras.Model, callbacks: Any, extra: keras.callbacks.Callback) -> Any:
    """Returns what `fit` was given as `callbacks`, in any of the forms that it takes, and one more."""
    if not isinstance(callbacks, keras.callbacks.CallbackList):
        return [*tf.nest.flatten(callbacks or []), extra]
    callbacks.callbacks.append(extra)
    extra.set_params(callbacks.params)
    extra.set_model(model)
    return callbacks
