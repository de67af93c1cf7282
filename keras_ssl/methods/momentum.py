"""What methods with a target network share: the moving average, and the schedule of its momentum."""

import logging
import math
from dataclasses import dataclass

import keras
import tensorflow as tf

from keras_ssl.layers import momentum_update, target_pairs
from keras_ssl.methods.base import SelfSupervised
from keras_ssl.methods.whole_passes import with_callback

_LOG = logging.getLogger("keras_ssl")


@dataclass(frozen=True)
class CosineMomentum:
    """Momentum as a function of the optimizer's step: from `first` to `final` by half a cosine.

        momentum(k) = final - (final - first) * (cos(pi * k / total_steps) + 1) / 2

    with k counted from step `origin`. With `first == final` it is constant.

    Args:
        first: momentum of the first step, in [0, 1].
        final: momentum from step `origin + total_steps` on, in [0, 1].
        total_steps: steps from `first` to `final`.
        origin: the optimizer's step that the schedule begins with.

    Raises:
        ValueError: if a momentum is not in [0, 1] or `total_steps` is not positive.

    Example:
        >>> momentum = CosineMomentum(0.996, 1.0, total_steps=100)
        >>> [round(float(momentum(step)), 3) for step in (0, 50, 100)]
        [0.996, 0.998, 1.0]

    Source: Grill et al. 2020 (BYOL), section 3.3.
    """

    first: float
    final: float
    total_steps: int = 1
    origin: int = 0

    def __post_init__(self):
        check_momentum("first", self.first)
        check_momentum("final", self.final)
        if self.total_steps < 1:
            raise ValueError(
                f"`total_steps` must be positive. Received: total_steps={self.total_steps}"
            )

    def __call__(self, step: int | tf.Tensor) -> tf.Tensor:
        """Returns the momentum of a step, a float32 scalar."""
        if self.first == self.final:
            return tf.constant(self.final, tf.float32)
        # One minus the momentum is small, and float32 has no digits to lose near 1.
        progress = tf.cast(step - self.origin, tf.float32) / self.total_steps
        weight = (tf.cos(math.pi * tf.clip_by_value(progress, 0.0, 1.0)) + 1.0) / 2.0  # 1 to 0
        return self.final - (self.final - self.first) * weight


def check_momentum(name: str, value: float):
    """Raises ValueError if a momentum does not lie in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"`{name}` must lie in [0, 1]. Received: {name}={value}")


class MomentumMethod(SelfSupervised):
    """A method with target networks that follow the online ones as moving averages.

    A subclass makes them, `self.target_backbone = target_network(backbone)`: an attribute `target_x`
    follows the attribute `x`. It ends its `ssl_loss` with `self.after_step(self.move_targets)`, so
    that the update is part of the training step: it happens once per step of the optimizer, whatever
    `steps_per_execution`, the strategy, accumulated gradients or loss scaling do.

    `keras_ssl.callbacks.MomentumEncoder` sets the momentum; `fit` without one takes the method's
    default, `default_momentum`, and says so.

    Attributes:
        momentum: function of the optimizer's step that gives the momentum.
    """

    default_momentum: tuple[float, float]  # first and final value, from the paper

    def __init__(self, backbone: keras.Model, **kwargs):
        super().__init__(backbone, **kwargs)
        self._momentum: CosineMomentum | None = None
        self._told_default = False

    def move_targets(self, moved: tf.Tensor):
        """Moves the targets towards the online networks, where the weights have moved."""
        step = tf.convert_to_tensor(self.optimizer.iterations) - 1  # of the step just taken
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
            if self.train_function is not None:  # its graph holds the old schedule
                self.make_train_function(force=True)

    def fit(self, x=None, *args, callbacks=None, **kwargs):
        """Trains on batches of views; see `SelfSupervised.fit`."""
        from keras_ssl.callbacks import MomentumEncoder  # which builds on this module

        is_list = isinstance(callbacks, keras.callbacks.CallbackList)
        listed = callbacks.callbacks if is_list else tf.nest.flatten(callbacks or [])
        if any(isinstance(callback, MomentumEncoder) for callback in listed):
            return super().fit(x, *args, callbacks=callbacks, **kwargs)

        first, final = self.default_momentum
        if not self._told_default:
            _LOG.warning(
                "%s trains with its paper's momentum, %g to %g. Set another with "
                "keras_ssl.callbacks.MomentumEncoder.",
                type(self).__name__,
                first,
                final,
            )
            self._told_default = True
        callbacks = with_callback(self, callbacks, MomentumEncoder(first, final))
        return super().fit(x, *args, callbacks=callbacks, **kwargs)
