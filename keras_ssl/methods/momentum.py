"""The base class of methods with target networks, which follow the trained ones as moving averages."""

import logging

import keras
import tensorflow as tf

from keras_ssl.layers import momentum_update, target_pairs
from keras_ssl.methods.base import SelfSupervised
from keras_ssl.methods.epoch_boundaries import with_callback
from keras_ssl.methods.momentum_encoder import CosineMomentum, MomentumEncoder

_LOG = logging.getLogger("keras_ssl")


class MomentumMethod(SelfSupervised):
    """A method with target networks that follow the online networks as moving averages.

    A subclass creates them with `self.target_backbone = target_network(backbone)`: the attribute
    `target_x` follows the attribute `x`. Its `ssl_loss` ends with
    `self.after_step(self.move_targets)`, which makes the update part of the training step. The update
    then happens once per step of the optimizer, regardless of `steps_per_execution`, the strategy,
    gradient accumulation and loss scaling.

    `keras_ssl.callbacks.MomentumEncoder` sets the momentum. `fit` without one uses the method's
    default, `default_momentum`, and logs a warning.

    Attributes:
        momentum: the momentum as a function of the optimizer's step.
    """

    default_momentum: tuple[float, float]  # first and last value, from the paper

    def __init__(self, backbone: keras.Model, **kwargs):
        super().__init__(backbone, **kwargs)
        self._momentum: CosineMomentum | None = None
        self._has_warned = False

    def move_targets(self, moved: tf.Tensor):
        """Moves the targets towards the online networks if the optimizer updated the weights."""
        step = tf.convert_to_tensor(self.optimizer.iterations) - 1  # the step just taken
        keep = tf.where(moved, self.momentum(step), 1.0)
        for target, online in target_pairs(self):
            momentum_update(target, online, keep)

    @property
    def momentum(self) -> CosineMomentum:
        """The momentum as a function of the optimizer's step."""
        first, final = self.default_momentum
        return self._momentum or CosineMomentum(first, final)

    @momentum.setter
    def momentum(self, schedule: CosineMomentum):
        if schedule != self._momentum:
            self._momentum = schedule
            if self.train_function is not None:  # its graph contains the old schedule
                self.make_train_function(force=True)

    def fit(self, x=None, *args, callbacks=None, **kwargs):
        """Trains on batches of views; see `SelfSupervised.fit`."""
        is_list = isinstance(callbacks, keras.callbacks.CallbackList)
        listed = callbacks.callbacks if is_list else tf.nest.flatten(callbacks or [])
        if any(isinstance(callback, MomentumEncoder) for callback in listed):
            return super().fit(x, *args, callbacks=callbacks, **kwargs)

        first, final = self.default_momentum
        if not self._has_warned:
            _LOG.warning(
                "%s uses its paper's momentum, %g to %g. Pass keras_ssl.callbacks.MomentumEncoder to "
                "change it.",
                type(self).__name__,
                first,
                final,
            )
            self._has_warned = True
        callbacks = with_callback(self, callbacks, MomentumEncoder(first, final))
        return super().fit(x, *args, callbacks=callbacks, **kwargs)
