"""The callback that sets the momentum of target networks during training."""

import math
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from keras_ssl.layers import momentum_update, target_pairs


@dataclass(frozen=True)
class CosineMomentum:
    """Momentum as a function of the optimizer's step: from `first` to `final` by half a cosine.

        momentum(k) = final - (final - first) * (cos(pi * k / total_steps) + 1) / 2

    where k is counted from step `origin`. It is constant if `first == final`.

    Args:
        first: momentum of the first step, in [0, 1].
        final: momentum from step `origin + total_steps` onwards, in [0, 1].
        total_steps: steps from `first` to `final`.
        origin: the optimizer's step at which the schedule begins.

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
        # 1 - momentum is small, and float32 has few digits to spare near 1.
        progress = tf.cast(step - self.origin, tf.float32) / self.total_steps
        weight = (tf.cos(math.pi * tf.clip_by_value(progress, 0.0, 1.0)) + 1.0) / 2.0  # 1 to 0
        return self.final - (self.final - self.first) * weight


def check_momentum(name: str, value: float):
    """Raises ValueError if a momentum does not lie in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"`{name}` must lie in [0, 1]. Received: {name}={value}")


class MomentumEncoder(keras.callbacks.Callback):
    """Moves target networks with a momentum that goes from `momentum` to `final` by half a cosine.

    For methods of this package it sets the schedule on the model, which updates its targets within
    the training step. The schedule is a function of the optimizer's step over the steps of this
    `fit`. With gradient accumulation it counts updates, and a resumed training continues where it
    stopped. A second `fit` from epoch 0 starts a new schedule. The momentum appears in the epoch's logs
    as "momentum".

    For any other Keras model with target networks (see `keras_ssl.layers.target_network`) the callback
    performs the update itself, after each batch in which the optimizer took a step. It finds targets by
    name: the attribute `target_encoder` follows `encoder`, `target` follows `online`.

    Args:
        momentum: share of the target that is kept at the first step, in [0, 1]. 0 copies the online
            network; 1 never moves the target (BYOL's experiment with a random target).
        final: the same at the last step, in [0, 1].
        total_steps: optimizer steps from `momentum` to `final`, counted from the optimizer's first;
            `None` takes the steps of this `fit`.

    Raises:
        ValueError: if a momentum is not in [0, 1] or `total_steps` is not positive; when training
            starts, if the model has no target, if the callback performs the update and
            `steps_per_execution` is above 1, or if the momentum changes and the number of steps is
            unknown.

    Example:
        ```python
        model.fit(views, epochs=200, callbacks=[MomentumEncoder(0.99, final=1.0)])
        ```

    Source: Grill et al. 2020 (BYOL), section 3.3; He et al. 2020 (MoCo), section 3.2, keeps the
    momentum constant: `MomentumEncoder(0.999, final=0.999)`.
    """

    def __init__(self, momentum: float = 0.996, final: float = 1.0, total_steps: int | None = None):
        super().__init__()
        check_momentum("momentum", momentum)
        check_momentum("final", final)
        if total_steps is not None and total_steps < 1:
            raise ValueError(f"`total_steps` must be positive. Received: total_steps={total_steps}")
        self.momentum = momentum
        self.final = final
        self.total_steps = total_steps
        self._schedule: Any = None  # a `CosineMomentum` once training has started
        self._pairs: list = []
        self._steps_taken = 0

    def on_train_begin(self, logs=None):
        """Finds the target networks."""
        self._schedule = None
        self._pairs = target_pairs(self.model)
        if not self._pairs:
            raise ValueError(
                "MomentumEncoder needs a model with a target network: an attribute `target_encoder` "
                "that follows the attribute `encoder`, or `target` that follows `online`. "
                f"Received: {type(self.model).__name__}, without one"
            )
        if self._updates_itself():
            return
        if self.model.steps_per_execution > 1:
            raise ValueError(
                "`steps_per_execution` must be 1 if a callback moves the target network: callbacks run "
                "once per execution. Methods of keras_ssl move it within the training step. "
                f"Received: {type(self.model).__name__} compiled with "
                f"steps_per_execution={self.model.steps_per_execution}"
            )
        self._steps_taken = self._steps_of_optimizer()

    def on_epoch_begin(self, epoch, logs=None):
        """Sets the schedule at the first epoch of a training."""
        if self._schedule is None:
            self._schedule = self._schedule_from(epoch)
            if self._updates_itself():
                self.model.momentum = self._schedule

    def on_train_batch_end(self, batch, logs=None):
        """Moves the targets of a model that does not do it in its training step."""
        if self._updates_itself():
            return
        steps = self._steps_of_optimizer()
        if steps > self._steps_taken:  # gradients may be accumulated, or a step skipped
            momentum = self._schedule(steps - 1)
            for target, online in self._pairs:
                momentum_update(target, online, momentum)
        self._steps_taken = steps

    def on_epoch_end(self, epoch, logs=None):
        """Logs the momentum of the last step."""
        if logs is not None:
            last = max(0, self._steps_of_optimizer() - 1)
            logs["momentum"] = float(self._schedule(last))

    def _updates_itself(self) -> bool:
        return hasattr(self.model, "move_targets")  # a `keras_ssl.methods.momentum.MomentumMethod`

    def _steps_of_optimizer(self) -> int:
        return int(tf.convert_to_tensor(self.model.optimizer.iterations))

    def _schedule_from(self, epoch: int) -> CosineMomentum:
        """Returns the schedule of a training whose first epoch is `epoch`."""
        if self.momentum == self.final:
            return CosineMomentum(self.momentum, self.final)
        if self.total_steps is not None:
            return CosineMomentum(self.momentum, self.final, self.total_steps)
        batches, epochs = self.params.get("steps"), self.params["epochs"]
        if not batches:
            raise ValueError(
                "A changing momentum needs the number of steps: pass `total_steps` here or "
                "`steps_per_epoch` to `fit`. Received: data of unknown length, and "
                f"momentum={self.momentum}, final={self.final}"
            )
        optimizer = self.model.optimizer
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        steps_per_epoch = batches / (optimizer.gradient_accumulation_steps or 1)
        taken = self._steps_of_optimizer()
        # An optimizer that has already taken this epoch's steps comes from an earlier training.
        is_resumed = taken < (epoch + 1) * steps_per_epoch
        origin = 0 if is_resumed else taken - round(epoch * steps_per_epoch)
        total = max(1, int(epochs * steps_per_epoch))
        return CosineMomentum(self.momentum, self.final, total, origin)
