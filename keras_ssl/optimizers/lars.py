"""LARS, layer-wise adaptive rate scaling, for large-batch training."""

from collections.abc import Callable, Sequence

import keras
from keras import ops

from keras_ssl.optimizers.base import MomentumOptimizer


@keras.saving.register_keras_serializable(package="keras_ssl")
class LARS(MomentumOptimizer):
    """Layer-wise adaptive rate scaling, in the form of SimCLR's reference code.

    For a variable w with gradient g and momentum buffer v:

        g = g + weight_decay * w
        trust = eta * norm(w) / norm(g)        (1 where a norm is 0)
        v = momentum * v + learning_rate * trust * g
        w = w - v        (nesterov: w - (momentum * v + learning_rate * trust * g))

    The learning rate multiplies the gradient before it enters the momentum buffer, as in
    google-research/simclr, so a change of the rate affects new gradients only. BYOL's code and optax
    multiply the buffer instead. The two agree for a constant rate, but not during warm-up. Excluded
    variables get neither the trust ratio nor weight decay.

    Args:
        learning_rate: a number, a `LearningRateSchedule`, or a function without arguments.
        momentum: in [0, 1).
        weight_decay: factor of the penalty's gradient, not negative. 1e-6 in SimCLR's paper, 1e-4
            in the README of its code and in SimCLRv2.
        eta: positive, the trust coefficient.
        exclude: `None` excludes every variable of rank 1 or less: biases, and gamma and beta of
            batch normalization. A sequence of regular expressions excludes the variables whose
            `variable.path` matches one of them; an empty sequence excludes none.
        nesterov: use Nesterov momentum.
        name: name of the optimizer.
        **kwargs: further arguments of `keras.optimizers.Optimizer`.

    Raises:
        ValueError: if a number is out of range, or `exclude` is a single string.

    Example:
        >>> optimizer = LARS(1.0, weight_decay=0.0)
        >>> weight = keras.Variable([[3.0, 4.0]])
        >>> optimizer.apply([keras.ops.convert_to_tensor([[0.0, 2.0]])], [weight])
        >>> round(float(weight[0, 1]), 6)  # 4 - 0.001 * 5 / 2 * 2
        3.995

    Source: You et al. 2017; `lars_optimizer.py` of google-research/simclr
    (`classic_momentum=True`).
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule | Callable,
        momentum: float = 0.9,
        weight_decay: float = 1e-6,
        eta: float = 0.001,
        exclude: Sequence[str] | None = None,
        nesterov: bool = False,
        name: str = "lars",
        **kwargs,
    ):
        if not eta > 0:
            raise ValueError(f"`eta` must be positive. Received: eta={eta}")
        super().__init__(learning_rate, momentum, weight_decay, exclude, nesterov, name, **kwargs)
        self.eta = eta

    def update_step(self, gradient, variable, learning_rate):
        """Updates one variable."""
        gradient = self.penalised_gradient(gradient, variable)
        rate = ops.cast(learning_rate, "float32")
        if not self.is_excluded(variable):
            rate = rate * self._trust_ratio(variable, gradient)
        increment = ops.cast(rate, variable.dtype) * gradient
        self.move(variable, increment, rate=1.0)

    def _trust_ratio(self, variable, gradient):
        weight_norm = _norm(variable)
        gradient_norm = _norm(gradient)
        defined = ops.logical_and(weight_norm > 0, gradient_norm > 0)
        return ops.where(defined, self.eta * weight_norm / gradient_norm, 1.0)

    def get_config(self):
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "eta": self.eta}


def _norm(values):
    # Always float32: squares of small gradients underflow in float16.
    return ops.sqrt(ops.sum(ops.square(ops.cast(values, "float32"))))
