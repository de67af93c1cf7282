"""The settings of `keras-ssl finetune`."""

import pathlib
from dataclasses import dataclass

import tyro


@dataclass(frozen=True)
class Finetune:
    """Train an encoder further with all labels or with few, into a run directory."""

    run: tyro.conf.Positional[pathlib.Path]
    """Run directory of a pretraining, or directory of an export, which has no head."""
    data: str
    """Labelled images, as for pretrain. Without test images of their own, a fifth is set aside."""
    data_dir: pathlib.Path | None = None
    """Where TensorFlow Datasets keeps its data sets."""
    out: pathlib.Path | None = None
    """Run directory to make; by default runs/finetune-<data>-<date and time>."""
    labels: float = 0.1
    """Share of the labels that is used: 0.01, 0.1, 1.0 or any other; the same number of every class."""
    from_layer: int | None = None
    """Layers of the projection head that are kept: 0 for none; by default 1, of an export 0."""
    from_scratch: bool = False
    """Begin with untrained weights: supervised training with the same labels, the row to beat."""
    epochs: int | None = None
    """Passes over the labelled images; by default 60 (up to 5% of the labels) or 30, and more where
    those would be fewer than 1,000 steps."""
    batch_size: int = 128
    """Images per step."""
    optimizer: str | None = None
    """lars or sgd; by default lars up to 5% of the labels and sgd above; from scratch always sgd."""
    learning_rate: float | None = None
    """Peak of the schedule; by default 0.005 * sqrt(batch) for lars, 0.05 * batch / 256 for sgd."""
    weight_decay: float | None = None
    """By default 0, from scratch 5e-4."""
    warmup_epochs: int = 0
    """Epochs of linear warm-up."""
    augmentation: str | None = None
    """How images are changed: crop-flip, or centred (handwriting and the like), the default for
    digits."""
    every: int = 10
    """Epochs from one test to the next."""
    seed: int = 0
    """Of the choice of labels, the new layer, the order and the crops."""
