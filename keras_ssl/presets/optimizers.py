"""Optimizers by name, with a linear warm-up and a cosine schedule."""

import math
from typing import TYPE_CHECKING

from keras_ssl.presets.lookup import spell

if TYPE_CHECKING:
    import keras

OPTIMIZERS = ("lars", "sgd", "adam", "adamw")
"""Names of optimizers on the command line."""
SCALINGS = ("none", "linear", "sqrt")


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
        name: "lars", "sgd", "adam" or "adamw".
        learning_rate: peak of the schedule; `None` takes the reference's: LARS 0.075 * sqrt(batch)
            (SimCLR), SGD 0.06 * batch / 128 (lightly), Adam 0.001, AdamW 1.5e-4 * batch / 256
            (`CONFIG.md` of MoCo v3, `PRETRAIN.md` of MAE, `TRAINING.md` of ConvNeXt V2).
        weight_decay: `None` takes the reference's: LARS 1e-6, SGD 5e-4, Adam none, AdamW 0.05
            (MAE; MoCo v3 uses 0.1).
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

    for option, value, zero in (
        ("learning_rate", learning_rate, False),
        ("weight_decay", weight_decay, True),
    ):
        check_rate(option, value, zero)
    name = spell("optimizer", name, OPTIMIZERS)
    scaling = spell("scaling", scaling, SCALINGS)

    def scaled(rate: float, rule: str) -> float:
        return optimizers.scaled_learning_rate(rate, batch_size, rule=rule)

    default = {
        "lars": scaled(0.075, "sqrt"),
        "sgd": scaled(0.12, "linear"),
        "adam": 1e-3,
        "adamw": scaled(1.5e-4, "linear"),
    }[name]
    peak = default if learning_rate is None else learning_rate
    if scaling != "none" and learning_rate is not None:
        peak = scaled(learning_rate, scaling)
    schedule = optimizers.WarmupCosine(factor * peak, total_steps, warmup_steps)
    if name == "adam":
        return keras.optimizers.Adam(schedule, weight_decay=weight_decay)
    if name == "adamw":
        return optimizers.AdamW(
            schedule, weight_decay=0.05 if weight_decay is None else weight_decay
        )
    if name == "lars":
        return optimizers.LARS(
            schedule, weight_decay=1e-6 if weight_decay is None else weight_decay
        )
    return optimizers.SGD(schedule, weight_decay=5e-4 if weight_decay is None else weight_decay)


def check_rate(option: str, value: float | None, zero: bool = False):
    """Checks a learning rate or a similar number, if there is one.

    Args:
        option: name of the option for the error message, such as "learning_rate" or "--learning-rate".
        value: number; `None` is accepted.
        zero: whether 0 is accepted.

    Raises:
        ValueError: if the number is negative, not finite, or 0 although that is not accepted.
    """
    if value is None or (math.isfinite(value) and (value > 0 or (zero and value == 0))):
        return
    expected = "at least 0" if zero else "positive"
    finite = "" if math.isfinite(value) else " and finite"
    shown = option if option.startswith("--") else f"`{option}`"
    raise ValueError(f"{shown} must be {expected}{finite}. Received: {option}={value}")
