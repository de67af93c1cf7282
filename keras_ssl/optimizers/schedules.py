"""Learning rates: warm-up with cosine decay, and scaling with the batch size."""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_ssl")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up from 0, then half a cosine down to `final`.

        step < warmup_steps:   peak * step / warmup_steps
        later:                 final + (peak - final) * (1 + cos(pi * progress)) / 2
                               with progress = (step - warmup_steps) / (total_steps - warmup_steps)

    Steps count from 0, so the first update of a warm-up has the rate 0, step `warmup_steps` is the
    first at `peak`, and the rate is `final` from step `total_steps` on (the last update, step
    `total_steps - 1`, stands just above). With `gradient_accumulation_steps` Keras asks once per
    batch: count batches, not updates.

    Args:
        peak: positive, the largest rate.
        total_steps: positive, the steps of the whole training, warm-up included.
        warmup_steps: at least 0 and fewer than `total_steps`.
        final: the last rate, between 0 and `peak`.

    Raises:
        ValueError: if a number is out of its range.

    Example:
        >>> schedule = WarmupCosine(peak=0.4, total_steps=100, warmup_steps=10)
        >>> [round(float(schedule(step)), 3) for step in (0, 5, 10, 55, 100)]
        [0.0, 0.2, 0.4, 0.2, 0.0]

    Source: `WarmUpAndCosineDecay` of google-research/simclr; Loshchilov and Hutter 2016.
    """

    def __init__(self, peak: float, total_steps: int, warmup_steps: int = 0, final: float = 0.0):
        if not peak > 0:
            raise ValueError(f"`peak` must be positive. Received: peak={peak}")
        if not total_steps > 0:
            raise ValueError(f"`total_steps` must be positive. Received: total_steps={total_steps}")
        if not 0 <= warmup_steps < total_steps:
            raise ValueError(
                "`warmup_steps` must be at least 0 and less than `total_steps`. "
                f"Received: warmup_steps={warmup_steps}, total_steps={total_steps}"
            )
        if not 0 <= final <= peak:
            raise ValueError(
                f"`final` must be between 0 and `peak`. Received: final={final}, peak={peak}"
            )
        self.peak = peak
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.final = final

    def __call__(self, step):
        """Returns the rate of this step, a float32 scalar."""
        step = ops.cast(step, "float32")
        warmup = self.peak * step / max(self.warmup_steps, 1)
        progress = (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        cosine = (1 + ops.cos(math.pi * ops.clip(progress, 0, 1))) / 2  # 1 to 0
        decay = self.final + (self.peak - self.final) * cosine
        return ops.where(step < self.warmup_steps, warmup, decay)

    def get_config(self):
        """Returns the arguments of the constructor."""
        return {
            "peak": self.peak,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "final": self.final,
        }


def scaled_learning_rate(base: float, batch_size: int, rule: str = "linear") -> float:
    """Returns the learning rate for a batch size.

    Args:
        base: positive, the rate of the recipe: per 256 images for "linear" (0.3 in SimCLR), per
            image for "sqrt" (0.075 in SimCLR). The two agree at a batch of 4096.
        batch_size: positive, the global batch: all replicas together.
        rule: "linear" for base * batch_size / 256, "sqrt" for base * sqrt(batch_size). The square
            root trains better with small batches (README of google-research/simclr).

    Raises:
        ValueError: if a number is not positive, or for another rule.

    Example:
        >>> scaled_learning_rate(0.3, 4096), scaled_learning_rate(0.075, 4096, rule="sqrt")
        (4.8, 4.8)

    Source: Goyal et al. 2017; Chen et al. 2020 (SimCLR), section B.1.
    """
    if not base > 0:
        raise ValueError(f"`base` must be positive. Received: base={base}")
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1. Received: batch_size={batch_size}")
    if rule == "linear":
        return base * batch_size / 256
    if rule == "sqrt":
        return base * math.sqrt(batch_size)
    raise ValueError(f"`rule` must be 'linear' or 'sqrt'. Received: rule={rule!r}")
