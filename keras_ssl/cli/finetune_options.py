"""The options of `keras-ssl finetune`."""

import pathlib
from dataclasses import dataclass

import tyro

from keras_ssl.cli.finetune_length import MIN_STEPS

OPTIMIZERS = ("lars", "sgd")


@dataclass(frozen=True)
class FinetuneOptions:
    """The options of a fine-tuning; `config.json` holds them."""

    run: tyro.conf.Positional[pathlib.Path | None] = None
    """Run directory of a pretraining, or directory of an export, which has no head."""
    data: str | None = None
    """Labeled images, as for pretrain. Without separate test images, a fifth is held
    out."""
    data_dir: pathlib.Path | None = None
    """Directory of TensorFlow Datasets."""
    out: pathlib.Path | None = None
    """Run directory to create. Default: runs/finetune-<data>-<date and time>."""
    resume: pathlib.Path | None = None
    """Run directory of a fine-tuning to continue; its own settings apply. A larger
    --epochs lengthens the run: the learning rate then follows the schedule of the
    longer run from the next step on."""
    labels: float = 0.1
    """Share of the labels to use: 0.01, 0.1, 1.0 or any other; below 1 the same number
    for every class, at most the size of the smallest."""
    from_layer: int | None = None
    """Layers of the projection head to keep; 0 for none. Default: 1 for a run, 0 for an
    export."""
    from_scratch: bool = False
    """Start with untrained weights: supervised training with the same labels, the
    baseline to beat."""
    epochs: int | None = None
    """Passes over the labeled images. Default: 60 (up to 5% of the labels) or 30, and
    more if those would be fewer than 1,000 steps."""
    min_steps: int = MIN_STEPS
    """Fewest steps: more epochs than --epochs are trained if they would be fewer steps;
    twice as many from scratch; 0 for no floor."""
    batch_size: int = 128
    """Images per step."""
    optimizer: str | None = None
    """lars or sgd. Default: lars up to 5% of the labels and sgd above; sgd from
    scratch."""
    learning_rate: float | None = None
    """Peak of the learning-rate schedule. Default: 0.005 * sqrt(batch size) for lars,
    0.05 * batch size / 256 for sgd."""
    weight_decay: float | None = None
    """Weight decay. Default: 0; from scratch 5e-4."""
    warmup_epochs: int = 0
    """Epochs of linear warm-up."""
    augmentation: str | None = None
    """How training images are augmented: crop-flip, or centred (handwriting and other
    centered objects), the default for digits."""
    every: int = 10
    """Epochs between two tests."""
    seed: int = 0
    """Random seed of the choice of labels, the new layer, the order and the crops."""
