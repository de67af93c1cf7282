"""SGD with momentum and L2 penalty as in PyTorch, for recipes that come from there."""

from collections.abc import Callable, Sequence

import keras

from keras_ssl.optimizers.base import MomentumOptimizer


@keras.saving.register_keras_serializable(package="keras_ssl")
class SGD(MomentumOptimizer):
    """Stochastic gradient descent as `torch.optim.SGD` computes it.

    With the gradient g of a variable w and its buffer v:

        g = g + weight_decay * w
        v = momentum * v + g
        w = w - learning_rate * v        (nesterov: w - learning_rate * (g + momentum * v))

    Two things differ from `keras.optimizers.SGD`: the weight decay is part of the gradient, and the
    learning rate stands outside the buffer, so that a step of the schedule acts on the whole
    velocity at once.

    Args:
        learning_rate: a number, a `LearningRateSchedule`, or a function without arguments.
        momentum: in [0, 1). PyTorch's default is 0; the recipes use 0.9.
        weight_decay: factor of the penalty's gradient, not negative; 1e-4 in MoCo.
        nesterov: look ahead by one momentum step.
        exclude: variables without weight decay: regular expressions that are searched in
            `variable.path`, or `None` for every variable of rank 1 or less. The default excludes
            none: PyTorch decays biases and batch normalisation as well, and MoCo's recipes count on
            it.
        name: name of the optimizer.
        **kwargs: further arguments of `keras.optimizers.Optimizer`.

    Raises:
        ValueError: if a number is out of its range, or `exclude` is one string.

    Example:
        >>> optimizer = SGD(0.03, weight_decay=1e-4)
        >>> weight = keras.Variable([1.0])
        >>> optimizer.apply([keras.ops.ones(1)], [weight])
        >>> round(float(weight[0]), 6)  # 1 - 0.03 * (1 + 1e-4 * 1)
        0.969997

    Source: `torch.optim.SGD`; `main_moco.py` of facebookresearch/moco.
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule | Callable,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        exclude: Sequence[str] | None = (),
        name: str = "sgd",
        **kwargs,
    ):
        super().__init__(learning_rate, momentum, weight_decay, exclude, nesterov, name, **kwargs)

    def update_step(self, gradient, variable, learning_rate):
        """Moves one variable."""
        self.move(variable, self.penalised_gradient(gradient, variable), learning_rate)
