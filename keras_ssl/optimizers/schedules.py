"""Learning rates: warm-up with cosine decay, and scaling with the batch size."""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_ssl")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up from 0 to `peak`, then cosine decay to `final`.

        step < warmup_steps:   peak * step / warmup_steps
        later:                 final + (peak - final) * (1 + cos(pi * progress)) / 2
                               with progress = (step - warmup_steps) / (total_steps - warmup_steps)

    Steps count from 0. The first step of a warm-up has rate 0, step `warmup_steps` is the first with
    rate `peak`, and the rate is `final` from step `total_steps`, so the last update (step
    `total_steps - 1`) is slightly above it. With `gradient_accumulation_steps` Keras advances the
    schedule once per batch: count batches, not updates.

    Args:
        peak: positive, the largest learning rate.
        total_steps: positive, number of training steps including warm-up.
        warmup_steps: at least 0 and less than `total_steps`.
        final: learning rate at the end, between 0 and `peak`.

    Raises:
        ValueError: if a number is out of range.

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
        """Returns the learning rate at this step, a float32 scalar."""
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
    """Scales a learning rate to a batch size.

    Args:
        base: positive base learning rate: per 256 images for "linear" (0.3 in SimCLR), per image for
            "sqrt" (0.075 in SimCLR). The two agree at a batch size of 4096.
        batch_size: positive, the global batch size.
        rule: "linear" for base * batch_size / 256, or "sqrt" for base * sqrt(batch_size), which trains
            better with small batches (README of google-research/simclr).

    Returns:
        The learning rate for `batch_size`.

    Raises:
        ValueError: if a number is not positive, or `rule` is unknown.

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
