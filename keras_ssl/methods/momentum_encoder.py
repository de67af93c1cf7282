"""The momentum of a target network over a training."""

from typing import Any

import keras
import tensorflow as tf

from keras_ssl.layers import momentum_update, target_pairs
from keras_ssl.methods.momentum import CosineMomentum, MomentumMethod, check_momentum


class MomentumEncoder(keras.callbacks.Callback):
    """Moves target networks with a momentum that goes from `momentum` to `final` by half a cosine.

    For methods of this package it sets the schedule on the model, which updates its targets within
    the training step. The schedule is a function of the optimizer's step over the steps of this
    `fit`: with accumulated gradients one per update, and a resumed training goes on where it was. A
    second `fit` from epoch 0 begins a schedule of its own. The momentum stands in the epoch's logs
    as "momentum".

    For any other Keras model with target networks (see `keras_ssl.layers.target_network`) it makes the
    update itself, after each batch in which the optimizer made a step. Targets are found by their
    names: the attribute `target_encoder` follows `encoder`, `target` follows `online`.

    Args:
        momentum: of the first step, in [0, 1]: what a target keeps of itself at each step. 0 copies the
            online network, 1 never moves the target (BYOL's experiment with a random target).
        final: of the last step, in [0, 1].
        total_steps: steps of the optimizer from `momentum` to `final`, counted from its first; `None`
            takes the steps of this `fit`.

    Raises:
        ValueError: if a momentum is not in [0, 1] or `total_steps` not positive; when training begins,
            if the model has no target, if `steps_per_execution` is above 1 and the model has a
            `train_step` of its own, or if a changing momentum meets data of unknown length.

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
        self._schedule: Any = None  # a `CosineMomentum` from the first epoch
        self._pairs: list = []
        self._steps_taken = 0

    def on_train_begin(self, logs=None):
        """Checks that there is something to move."""
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
                "A target network that a callback moves needs steps_per_execution=1: callbacks run "
                "once per execution. Methods of keras_ssl move theirs within the step. "
                f"Received: {type(self.model).__name__} compiled with "
                f"steps_per_execution={self.model.steps_per_execution}"
            )
        self._steps_taken = self._steps_of_optimizer()

    def on_epoch_begin(self, epoch, logs=None):
        """Sets the schedule, at the first epoch of a training."""
        if self._schedule is None:
            self._schedule = self._schedule_from(epoch)
            if self._updates_itself():
                self.model.momentum = self._schedule

    def on_train_batch_end(self, batch, logs=None):
        """Moves the targets of a model that does not do so itself."""
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
        return isinstance(self.model, MomentumMethod)

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
        # An optimizer that is where this epoch's steps end, or further, comes from an earlier training
        # than the one that goes on here.
        is_resumed = taken < (epoch + 1) * steps_per_epoch
        origin = 0 if is_resumed else taken - round(epoch * steps_per_epoch)
        total = max(1, int(epochs * steps_per_epoch))
        return CosineMomentum(self.momentum, self.final, total, origin)
