"""The optimizers of the command line."""

import keras

from keras_ssl import optimizers
from keras_ssl.names.table import unknown


def optimizer(
    name: str,
    learning_rate: float | None,
    weight_decay: float | None,
    batch_size: int,
    total_steps: int,
    warmup_steps: int,
    scale: float = 1.0,
) -> keras.optimizers.Optimizer:
    """Returns an optimizer with a linear warm-up and a cosine schedule.

    Args:
        name: "lars", "sgd" or "adam".
        learning_rate: peak; `None` takes the reference's, scaled by the batch: LARS 0.075 *
            sqrt(batch) (SimCLR), SGD 0.06 * batch / 128 (lightly), Adam 0.001.
        weight_decay: `None` takes the reference's: LARS 1e-6, SGD 5e-4, Adam none.
        batch_size: images per step.
        total_steps: steps of the whole run.
        warmup_steps: steps of the warm-up.
        scale: factor on the peak.
    """
    peaks = {
        "lars": optimizers.scaled_learning_rate(0.075, batch_size, rule="sqrt"),
        "sgd": optimizers.scaled_learning_rate(0.12, batch_size, rule="linear"),
        "adam": 1e-3,
    }
    if name not in peaks:
        raise unknown("optimizer", name, peaks)
    peak = peaks[name] if learning_rate is None else learning_rate
    schedule = optimizers.WarmupCosine(scale * peak, total_steps, warmup_steps)
    if name == "adam":
        return keras.optimizers.Adam(schedule, weight_decay=weight_decay)
    if name == "lars":
        return optimizers.LARS(
            schedule, weight_decay=1e-6 if weight_decay is None else weight_decay
        )
    return optimizers.SGD(schedule, weight_decay=5e-4 if weight_decay is None else weight_decay)
