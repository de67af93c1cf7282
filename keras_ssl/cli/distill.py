"""The settings of `keras-ssl distill`."""

import pathlib
from dataclasses import dataclass

import tyro


@dataclass(frozen=True)
class Distill:
    """Train a student on the predictions of a teacher, without labels, into a run directory."""

    teacher: tyro.conf.Positional[pathlib.Path | None] = None
    """Run directory of a fine-tuning or a distillation, or any SavedModel that scores classes."""
    data: str | None = None
    """Images, as for pretrain; where there are labels and test images, the student is tested."""
    data_dir: pathlib.Path | None = None
    """Where TensorFlow Datasets keeps its data sets."""
    channels: int = 3
    """Channels that the images of a folder are decoded to: 3, or 1 for grey."""
    out: pathlib.Path | None = None
    """Run directory to make; by default runs/distill-<data>-<date and time>."""
    resume: pathlib.Path | None = None
    """Run directory of an interrupted distillation to go on with; its own settings hold."""
    student: str | None = None
    """Network, as --backbone for pretrain. By default one of the teacher's own form that begins with
    the teacher's weights (self-distillation)."""
    student_width: float = 1.0
    """Factor on the number of filters of the student."""
    temperature: float | None = None
    """Of both softmaxes; by default 0.1 for self-distillation, 1 for another student."""
    labelled_weight: float = 0.0
    """Weight of the cross-entropy with the images' own labels, 0 to 1."""
    precompute: bool = False
    """Ask the teacher once for each image, before the training, instead of for every crop."""
    epochs: int = 100
    """Passes over the data."""
    batch_size: int = 256
    """Images per step, over all devices."""
    augmentation: str | None = None
    """How images are changed: crop-flip, or centred (handwriting and the like), the default for
    digits."""
    optimizer: str = "sgd"
    """sgd, lars or adam."""
    learning_rate: float | None = None
    """Peak of the schedule; by default the reference's for the optimizer and the batch size, times the
    temperature where that is below 1: gradients grow with its inverse."""
    weight_decay: float | None = None
    """By default the reference's for the optimizer."""
    warmup_epochs: int = 5
    """Epochs of linear warm-up, at most a tenth of all."""
    seed: int = 0
    """Of weights, order and crops: the same seed gives the same run."""
    strategy: str = "auto"
    """Distribution, as for pretrain."""
    precision: str = "float32"
    """float32, mixed_bfloat16 or mixed_float16."""
    steps_per_execution: int = 1
    """Steps that run without returning to Python."""
