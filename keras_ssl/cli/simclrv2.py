"""The settings of `keras-ssl simclrv2`."""

import pathlib
from dataclasses import dataclass


@dataclass(frozen=True)
class SimCLRv2:
    """Pretrain, fine-tune with few labels and distil into a small student: the whole way, resumable."""

    data: str | None = None
    """Images, as for pretrain, with labels: a share of them is used."""
    data_dir: pathlib.Path | None = None
    """Where TensorFlow Datasets keeps its data sets."""
    channels: int = 3
    """Channels that the images of a folder are decoded to: 3, or 1 for grey."""
    out: pathlib.Path | None = None
    """Run directory to make; by default runs/simclrv2-<data>-<date and time>."""
    resume: pathlib.Path | None = None
    """Run directory of an interrupted run to go on with; its own settings hold."""
    pretrained: pathlib.Path | None = None
    """Run directory of a pretraining to begin with, in the place of an own one."""
    labels: tuple[float, ...] = (0.01, 0.1)
    """Shares of the labels, each fine-tuned and distilled apart."""
    backbone: str = "resnet18"
    """Network that is pretrained and becomes the teacher, as for pretrain."""
    width: float = 1.0
    """Factor on its number of filters."""
    student: str | None = None
    """The small student; by default a network like the teacher's."""
    student_width: float = 0.5
    """Factor on the student's number of filters."""
    image_size: int | None = None
    """Side of the views in pixels; by default as for pretrain."""
    head_layers: int = 3
    """Layers of the projection head; 0 for none."""
    from_layer: int = 1
    """Layers of the head that fine-tuning keeps."""
    temperature: float | None = None
    """Of the contrastive loss; by default 0.5."""
    epochs: int = 100
    """Passes over the data in pretraining."""
    optimizer: str | None = None
    """Of pretraining: lars, sgd or adam; by default lars."""
    learning_rate: float | None = None
    """Of pretraining, the peak of the schedule; by default the reference's."""
    weight_decay: float | None = None
    """Of pretraining; by default the reference's for the optimizer."""
    warmup_epochs: int = 10
    """Of pretraining, at most a tenth of its epochs."""
    finetune_epochs: int | None = None
    """Passes over the labelled images in fine-tuning and in training from scratch; by default as for
    finetune."""
    distill_epochs: int = 100
    """Passes over the data in each distillation."""
    batch_size: int = 256
    """Images per step of pretraining and distillation, over all devices."""
    seed: int = 0
    """Of everything random."""
    strategy: str = "auto"
    """Distribution of pretraining and distillation, as for pretrain."""
    precision: str = "float32"
    """float32, mixed_bfloat16 or mixed_float16."""
