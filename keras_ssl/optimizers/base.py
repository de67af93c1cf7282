"""Base class of LARS and SGD: a momentum buffer, and an L2 penalty in the gradient."""

import re
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf
from keras import ops


class MomentumOptimizer(keras.optimizers.Optimizer):
    """An optimizer with momentum whose weight decay is an L2 penalty in the gradient.

    Keras' own `weight_decay` shrinks the weights separately from the update (decoupled, as in AdamW).
    In SimCLR, MoCo and their PyTorch ports, weight decay is added to the gradient and so passes through
    the momentum. Subclasses implement `update_step` with `penalised_gradient` and `move`.

    Args:
        learning_rate: a number, a `LearningRateSchedule`, or a function without arguments.
        momentum: in [0, 1).
        weight_decay: factor of the penalty's gradient, not negative.
        exclude: variables without weight decay: `None` for all of rank 1 or less (biases, and gamma
            and beta of normalization layers), or regular expressions to search for in `variable.path`
            ("head/", "gamma$"). An empty sequence excludes none. Patterns match paths because Keras'
            variable names ("kernel", "gamma") do not contain the layer.
        nesterov: use Nesterov momentum.
        name: name of the optimizer.
        **kwargs: further arguments of `keras.optimizers.Optimizer`: `clipnorm`, `use_ema`,
            `loss_scale_factor`, `gradient_accumulation_steps` and others.

    Raises:
        ValueError: if a number is out of range, or `exclude` is a single string.
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule | Callable,
        momentum: float,
        weight_decay: float,
        exclude: Sequence[str] | None,
        nesterov: bool,
        name: str,
        **kwargs,
    ):
        if not 0 <= momentum < 1:
            raise ValueError(f"`momentum` must be in [0, 1). Received: momentum={momentum}")
        if not weight_decay >= 0:
            raise ValueError(
                f"`weight_decay` must not be negative. Received: weight_decay={weight_decay}"
            )
        if isinstance(exclude, str):
            raise ValueError(
                "`exclude` must be None or a sequence of regular expressions, such as "
                f"({exclude!r},). Received: exclude={exclude!r}"
            )
        if isinstance(learning_rate, int):
            learning_rate = float(learning_rate)  # Keras takes floats only
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.exclude = None if exclude is None else list(exclude)
        self.nesterov = nesterov

    def build(self, variables):
        """Creates one momentum buffer per variable, and finds the excluded variables."""
        if self.built:
            return
        super().build(variables)
        self.momentums = self.add_optimizer_variables(variables, "momentum")
        # `update_step` receives TensorFlow variables, which have no path, so this is decided here.
        self._is_excluded = [self._matches_exclude(variable) for variable in variables]

    def _matches_exclude(self, variable):
        if self.exclude is None:
            return len(variable.shape) <= 1
        path = getattr(variable, "path", variable.name)
        return any(re.search(pattern, path) for pattern in self.exclude)

    def is_excluded(self, variable) -> bool:
        """Returns whether `exclude` covers a variable that the optimizer was built with."""
        return self._is_excluded[self._get_variable_index(variable)]

    def penalised_gradient(self, gradient, variable):
        """Returns the gradient plus that of the L2 penalty, in the variable's dtype."""
        gradient = ops.cast(gradient, variable.dtype)
        if self.weight_decay == 0 or self.is_excluded(variable):
            return gradient
        return gradient + ops.cast(self.weight_decay, variable.dtype) * variable

    def move(self, variable, increment, rate):
        """Updates the momentum buffer with the increment, and the variable with the buffer.

        v = momentum * v + increment
        w = w - rate * v        (nesterov: w - rate * (increment + momentum * v))
        """
        buffer = self.momentums[self._get_variable_index(variable)]
        # A fused update reads memory once. Separate operations cost as much as a normalization layer.
        tf.raw_ops.ResourceApplyMomentum(
            var=variable.handle,
            accum=buffer.value.handle,
            lr=ops.cast(rate, variable.dtype),
            grad=increment,
            momentum=ops.cast(self.momentum, variable.dtype),
            use_nesterov=self.nesterov,
        )

    def _apply_weight_decay(self, variables):
        """Does nothing: the penalty is in the gradient, and Keras would decay the weights again."""

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        """Not supported: use the constructor's `exclude` argument.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"{type(self).__name__} expects exclusions in its argument `exclude`. Received: "
            f"exclude_from_weight_decay(var_list={var_list}, var_names={var_names})"
        )

    def get_config(self):
        """Returns the arguments of the constructor."""
        config = {
            "momentum": self.momentum,
            "exclude": None if self.exclude is None else list(self.exclude),
            "nesterov": self.nesterov,
        }
        return {**super().get_config(), **config}
