"""The options of `keras-ssl distill`."""

import pathlib
from dataclasses import dataclass

import tyro


@dataclass(frozen=True)
class DistillOptions:
    """The options of a distillation; `config.json` holds them."""

    teacher: tyro.conf.Positional[pathlib.Path | None] = None
    """Run directory of a fine-tuning or a distillation, or any SavedModel that returns
    class scores."""
    data: str | None = None
    """Images, as for pretrain. If they have labels and test images, the student is
    tested."""
    data_dir: pathlib.Path | None = None
    """Directory of TensorFlow Datasets."""
    channels: int = 3
    """Channels of the images of a folder: 3, or 1 for grayscale."""
    out: pathlib.Path | None = None
    """Run directory to create. Default: runs/distill-<data>-<date and time>."""
    resume: pathlib.Path | None = None
    """Run directory of a distillation to continue; its own settings apply. A larger
    --epochs lengthens the run: the learning rate then follows the schedule of the
    longer run from the next step on."""
    student: str | None = None
    """Network, as --backbone for pretrain. Default: the teacher's architecture with the
    teacher's weights (self-distillation)."""
    student_width: float = 1.0
    """Factor on the number of filters of the student."""
    input_scale: float = 255
    """Factor on pixels in [0, 1] before ConvNeXt, EfficientNet and MobileNetV3, as for
    pretrain. Runs of earlier versions keep 1."""
    temperature: float | None = None
    """Temperature of both softmaxes. Default: 0.1 for self-distillation, 1 for another
    student."""
    labelled_weight: float = 0.0
    """Weight of the cross-entropy with the labels of the images, 0 to 1."""
    precompute: bool = False
    """Compute the teacher's predictions once per image before training, instead of for
    every crop."""
    epochs: int = 100
    """Passes over the data."""
    batch_size: int | None = None
    """Global batch size: images per step, over all devices. Default: 256, or the
    largest power of two that is not larger than the data set."""
    augmentation: str | None = None
    """How images are augmented: crop-flip, or centred (handwriting and other centered
    objects), the default for digits."""
    optimizer: str = "sgd"
    """sgd, lars or adam."""
    learning_rate: float | None = None
    """Peak of the learning-rate schedule. Default: the reference's for the optimizer
    and the batch size, times the temperature if that is below 1, because gradients grow
    with its inverse."""
    weight_decay: float | None = None
    """Weight decay. Default: the reference's for the optimizer."""
    warmup_epochs: int = 5
    """Epochs of linear warm-up, at most a tenth of all epochs."""
    seed: int = 0
    """Random seed of weights, order and crops. The same seed gives the same run."""
    strategy: str = "auto"
    """Distribution, as for pretrain."""
    precision: str = "float32"
    """float32, mixed_bfloat16 or mixed_float16."""
    steps_per_execution: int = 1
    """Training steps per call of the compiled function."""
