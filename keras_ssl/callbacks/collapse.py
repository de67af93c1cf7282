"""Decides whether features have collapsed, and describes how and why."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_ssl.evaluate import feature_statistics as statistics

_MAX_VARIANCE_SHARE = 0.999  # of the variance along one direction; untrained networks stay below
_MIN_IMAGES_FOR_SHARE = 8  # features of fewer images may lie on a line by chance
# Of a spread that is below the threshold from the beginning: a quarter of it is lost in a collapse.
_LEFT_AT_COLLAPSE = 0.25

CAUSES = (
    "Common causes: a learning rate that is too high or has no warm-up; a target network that "
    "moves too fast (momentum too low), a missing predictor or stopped gradient (BYOL, SimSiam); a "
    "temperature far from the paper's, too few negatives (SimCLR, MoCo); augmentations too weak to "
    "make views differ; too much weight decay. See docs/monitoring.md."
)


@dataclass(frozen=True)
class Spread:
    """How much vectors of different images differ.

    Args:
        name: "feature" or "embedding".
        std: see `feature_statistics.feature_std`.
        share: share of the variance along one direction, 0 to 1; 0 for too few images to tell.
    """

    name: str
    std: float
    share: float


def measure_spreads(outputs: Sequence[np.ndarray]) -> list[Spread]:
    """Returns the spread of features and, if there are any, embeddings, each (views, n, dim)."""
    spreads = []
    for name, values in zip(("feature", "embedding"), outputs, strict=False):
        vectors = np.concatenate(values)  # (views * n, dim)
        enough = len(vectors) >= _MIN_IMAGES_FOR_SHARE
        share = statistics.main_direction_share(vectors) if enough else 0.0
        spreads.append(Spread(name, statistics.feature_std(vectors), share))
    return spreads


def find_collapse(
    spreads: Sequence[Spread],
    first: Sequence[Spread] | None,
    threshold: float,
    was_collapsed: bool = False,
) -> tuple[Spread, str] | None:
    """Returns the first spread that has collapsed and a description of it; `None` if none has.

    Args:
        spreads: latest measurement.
        first: measurement at the beginning of training. A network whose features were nearly equal from
            the beginning has not collapsed as long as they are not much more so. `None` if unknown.
        threshold: standard deviation below which vectors count as collapsed.
        was_collapsed: whether the measurement before had collapsed. A collapse ends at twice the
            threshold, so that values close to it do not warn repeatedly.
    """
    for place, spread in enumerate(spreads):
        start = first[place] if first else None
        limit = threshold
        if start is not None and start.std < threshold:
            limit = start.std * _LEFT_AT_COLLAPSE
        if spread.std < limit * (2 if was_collapsed else 1):
            return spread, "are nearly equal"
        on_line = start is not None and start.share > _MAX_VARIANCE_SHARE
        if spread.share > _MAX_VARIANCE_SHARE and not on_line:
            return (
                spread,
                f"lie on a line, with {spread.share:.2%} of their variance along one direction",
            )
    return None


def describe_collapse(spread: Spread, how: str, epoch: int) -> str:
    """Returns the warning about a collapse, for people. Epochs count from 1."""
    return (
        f"Collapse in epoch {epoch}: the {spread.name}s of different images {how} "
        f"({spread.name}_std={spread.std:.3g}). {CAUSES}"
    )


def describe_statistics(
    spread: Spread, how: str, training: Spread, epoch: int, momentum: float
) -> str:
    """Returns the warning about features that have collapsed in inference mode only."""
    return (
        f"Epoch {epoch}: in inference mode, the {spread.name}s of different images {how} "
        f"({spread.name}_std={spread.std:.3g}); in training mode, they do not "
        f"({training.std:.3g}). The moving statistics of batch normalization differ from those of "
        "the batches, so evaluation and export would give wrong results. Common causes: too few "
        f"training steps for the momentum of the layers (the largest is {momentum:g}); a learning "
        "rate that is too high for the statistics to follow. See docs/monitoring.md."
    )


def describe_start(spread: Spread, first: Spread, epoch: int) -> str:
    """Returns the warning about features that are as equal as they were at the beginning."""
    return (
        f"Epoch {epoch}: the {spread.name}s of different images are nearly equal "
        f"({spread.name}_std={spread.std:.3g}), as at the beginning of the training "
        f"({first.std:.3g}). The network has not learned to distinguish images yet. Networks with a "
        "layer scale, such as ConvNeXt, begin like this: train for more steps, with AdamW; check that "
        "the pixels are in the range that the network expects. See docs/monitoring.md."
    )
