"""AdamW without weight decay on biases, normalization layers and layer scales."""

from collections.abc import Callable

import keras


@keras.saving.register_keras_serializable(package="keras_ssl")
class AdamW(keras.optimizers.AdamW):
    """Adam with decoupled weight decay on matrices and kernels only.

    It is `keras.optimizers.AdamW`, except that variables of rank 1 or less are not decayed: biases,
    gamma and beta of normalization layers, and the layer scales of ConvNeXt, which start at 1e-6.

        w = w - learning_rate * weight_decay * w        (variables of rank 2 or more)
        w = w - learning_rate * Adam's update

    Args:
        learning_rate: a number, a `LearningRateSchedule`, or a function without arguments.
        weight_decay: factor of the decay, not negative.
        **kwargs: further arguments of `keras.optimizers.AdamW`.

    Raises:
        ValueError: if `weight_decay` is negative.

    Example:
        >>> optimizer = AdamW(0.1, weight_decay=0.5)
        >>> weight = keras.Variable([[4.0]])
        >>> optimizer.apply([keras.ops.zeros((1, 1))], [weight])
        >>> round(float(weight[0, 0]), 6)  # 4 - 0.1 * 0.5 * 4
        3.8

    Source: Loshchilov and Hutter 2017, algorithm 2; `optim_factory.py` of facebookresearch/ConvNeXt
    excludes the same variables.
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule | Callable = 0.001,
        weight_decay: float = 0.05,
        **kwargs,
    ):
        if not weight_decay >= 0:
            raise ValueError(
                f"`weight_decay` must not be negative. Received: weight_decay={weight_decay}"
            )
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, **kwargs)

    def _use_weight_decay(self, variable):
        return len(variable.shape) > 1 and super()._use_weight_decay(variable)
