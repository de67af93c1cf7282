"""The number of epochs of a fine-tuning: at least a number of steps."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

MIN_STEPS = 1000  # as `evaluate.finetune` without `epochs`, which measured it (docs/results.md)


def finetune_epochs(
    epochs: int,
    labels: "np.ndarray",
    share: float = 1.0,
    batch_size: int = 128,
    min_steps: int = MIN_STEPS,
    seed: int = 0,
) -> tuple[int, str]:
    """Returns the epochs to train, and a text if they are more than were asked for.

    With few labels, an epoch is a single step, and a few epochs hardly change the network.

    Args:
        epochs: passes over the labeled images that were asked for.
        labels: (n,) labels of the training images.
        share: fraction of the labels that is used, in (0, 1].
        batch_size: images per step.
        min_steps: fewest steps; 0 for no floor.
        seed: seed of the selection of labels.

    Raises:
        ValueError: if the share of the labels is out of range.

    Example:
        >>> finetune_epochs(20, np.arange(1000) % 10, share=0.1)[0]
        1000
    """
    from keras_ssl import evaluate

    count = evaluate.label_subset(labels, share, seed).size
    steps = max(1, count // min(batch_size, count))
    longer = max(epochs, -(-min_steps // steps))
    if longer == epochs:
        return epochs, ""
    return longer, (
        f"{epochs} epochs of {count} labeled images are only {epochs * steps} steps. "
        f"Training for {longer} epochs, {longer * steps} steps; a floor of 0 steps switches this off."
    )
