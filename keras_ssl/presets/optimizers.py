"""Optimizers by name, with a linear warm-up and a cosine schedule."""

from typing import TYPE_CHECKING

from keras_ssl.presets.lookup import lookup

if TYPE_CHECKING:
    import keras


def build_optimizer(
    name: str,
    learning_rate: float | None,
    weight_decay: float | None,
    batch_size: int,
    total_steps: int,
    warmup_steps: int,
    scaling: str = "none",
    factor: float = 1.0,
) -> "keras.optimizers.Optimizer":
    """Returns an optimizer whose learning rate warms up linearly and then falls by half a cosine.

    Args:
        name: "lars", "sgd" or "adam".
        learning_rate: peak of the schedule; `None` takes the reference's: LARS 0.075 * sqrt(batch)
            (SimCLR), SGD 0.06 * batch / 128 (lightly), Adam 0.001.
        weight_decay: `None` takes the reference's: LARS 1e-6, SGD 5e-4, Adam none.
        batch_size: global batch size.
        total_steps: steps of the whole run.
        warmup_steps: steps of the warm-up.
        scaling: factor on `learning_rate`: "none"; "linear", batch_size / 256; or "sqrt",
            sqrt(batch_size).
        factor: further factor on the peak, also on the reference's.

    Raises:
        ValueError: if a name is unknown or a number is out of range.
    """
    import keras

    from keras_ssl import optimizers

    def scaled(rate: float, rule: str) -> float:
        return optimizers.scaled_learning_rate(rate, batch_size, rule=rule)

    default = lookup(
        "optimizer",
        name,
        {"lars": scaled(0.075, "sqrt"), "sgd": scaled(0.12, "linear"), "adam": 1e-3},
    )
    if scaling not in ("none", "linear", "sqrt"):
        raise ValueError(f"`scaling` must be none, linear or sqrt. Received: scaling={scaling!r}")
    peak = default if learning_rate is None else learning_rate
    if scaling != "none" and learning_rate is not None:
        peak = scaled(learning_rate, scaling)
    schedule = optimizers.WarmupCosine(factor * peak, total_steps, warmup_steps)
    if name == "adam":
        return keras.optimizers.Adam(schedule, weight_decay=weight_decay)
    if name == "lars":
        return optimizers.LARS(
            schedule, weight_decay=1e-6 if weight_decay is None else weight_decay
        )
    return optimizers.SGD(schedule, weight_decay=5e-4 if weight_decay is None else weight_decay)
