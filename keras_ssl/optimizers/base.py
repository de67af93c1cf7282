"""What LARS and SGD share: a momentum buffer, and an L2 penalty in the gradient."""

import re
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf
from keras import ops


class MomentumOptimizer(keras.optimizers.Optimizer):
    """An optimizer with momentum whose weight decay is an L2 penalty in the gradient.

    Keras' own `weight_decay` shrinks the weights beside the update (decoupled, as in AdamW);
    recipes of SimCLR, MoCo and their PyTorch ports mean a penalty that passes through the momentum.
    Subclasses implement `update_step` with `penalised_gradient` and `move`.

    Args:
        learning_rate: a number, a `LearningRateSchedule`, or a function without arguments.
        momentum: in [0, 1).
        weight_decay: factor of the penalty's gradient, not negative.
        exclude: which variables are left out: `None` for those of rank 1 or less (biases, and gamma
            and beta of normalisation), or regular expressions that are searched in `variable.path`
            ("head/", "gamma$"); an empty sequence leaves none out. Keras' variable names are just
            "kernel" and "gamma", only paths contain the layer.
        nesterov: look ahead by one momentum step.
        name: name of the optimizer.
        **kwargs: further arguments of `keras.optimizers.Optimizer`: `clipnorm`, `use_ema`,
            `loss_scale_factor`, `gradient_accumulation_steps` and the like.

    Raises:
        ValueError: if a number is out of its range, or `exclude` is one string.
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
        """Creates one momentum buffer per variable, and decides which variables are excluded."""
        if self.built:
            return
        super().build(variables)
        self.momentums = self.add_optimizer_variables(variables, "momentum")
        # Decided here, once: `update_step` receives TensorFlow's variables, which have no path.
        self._is_excluded = [self._matches_exclude(variable) for variable in variables]

    def _matches_exclude(self, variable):
        if self.exclude is None:
            return len(variable.shape) <= 1
        path = getattr(variable, "path", variable.name)
        return any(re.search(pattern, path) for pattern in self.exclude)

    def is_excluded(self, variable) -> bool:
        """Tells whether `exclude` covers this variable, one that the optimizer was built with."""
        return self._is_excluded[self._get_variable_index(variable)]

    def penalised_gradient(self, gradient, variable):
        """Returns the gradient plus that of the L2 penalty, in the variable's dtype."""
        gradient = ops.cast(gradient, variable.dtype)
        if self.weight_decay == 0 or self.is_excluded(variable):
            return gradient
        return gradient + ops.cast(self.weight_decay, variable.dtype) * variable

    def move(self, variable, increment, rate):
        """Adds the increment to the variable's momentum buffer, and moves the variable by it.

        v = momentum * v + increment
        w = w - rate * v        (nesterov: w - rate * (increment + momentum * v))
        """
        buffer = self.momentums[self._get_variable_index(variable)]
        # One pass over the memory: by single operations an update costs as much as a normalisation.
        tf.raw_ops.ResourceApplyMomentum(
            var=variable.handle,
            accum=buffer.value.handle,
            lr=ops.cast(rate, variable.dtype),
            grad=increment,
            momentum=ops.cast(self.momentum, variable.dtype),
            use_nesterov=self.nesterov,
        )

    def _apply_weight_decay(self, variables):
        """Does nothing: Keras would decay the weights a second time, beside the update."""

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        """Refuses: the argument `exclude` of the constructor does this.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"{type(self).__name__} takes its exclusions as the argument `exclude`. Received: "
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
