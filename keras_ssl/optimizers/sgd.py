"""SGD with momentum and L2 penalty as in PyTorch, for recipes ported from it."""

from collections.abc import Callable, Sequence

import keras

from keras_ssl.optimizers.base import MomentumOptimizer


@keras.saving.register_keras_serializable(package="keras_ssl")
class SGD(MomentumOptimizer):
    """Stochastic gradient descent as `torch.optim.SGD` computes it.

    For a variable w with gradient g and momentum buffer v:

        g = g + weight_decay * w
        v = momentum * v + g
        w = w - learning_rate * v        (nesterov: w - learning_rate * (g + momentum * v))

    It differs from `keras.optimizers.SGD` in two ways. Weight decay is added to the gradient. The
    learning rate multiplies the momentum buffer, so a change of the rate affects past gradients too.

    Args:
        learning_rate: a number, a `LearningRateSchedule`, or a function without arguments.
        momentum: in [0, 1). PyTorch's default is 0; the recipes use 0.9.
        weight_decay: factor of the penalty's gradient, not negative; 1e-4 in MoCo.
        nesterov: use Nesterov momentum.
        exclude: variables without weight decay: regular expressions to search for in
            `variable.path`, or `None` for every variable of rank 1 or less. The default excludes
            none: PyTorch decays biases and batch normalization as well, and MoCo's recipes rely on
            that.
        name: name of the optimizer.
        **kwargs: further arguments of `keras.optimizers.Optimizer`.

    Raises:
        ValueError: if a number is out of range, or `exclude` is a single string.

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
        """Updates one variable."""
        self.move(variable, self.penalised_gradient(gradient, variable), learning_rate)
