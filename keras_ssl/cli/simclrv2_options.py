"""The options of `keras-ssl simclrv2`."""

import pathlib
from dataclasses import dataclass
from typing import Any, Literal

from keras_ssl.presets import Preset, SimCLR, SimCLRMemory


@dataclass(frozen=True)
class SimCLRv2Options:
    """The options of all stages; `config.json` holds them."""

    data: str | None = None
    """Labeled images, as for pretrain. Only a share of the labels is used."""
    data_dir: pathlib.Path | None = None
    """Directory of TensorFlow Datasets."""
    channels: int = 3
    """Channels of the images of a folder: 3, or 1 for grayscale."""
    value_range: Literal["full", "auto"] | tuple[float, float] = "full"
    """Pixel values that become 0 and 1 in all stages, as for pretrain. With
    --pretrained: those of that run."""
    verify: bool = True
    """Decode all files of a folder before training, and leave out those that are
    damaged."""
    out: pathlib.Path | None = None
    """Run directory to create. Default: runs/simclrv2-<data>-<date and time>."""
    resume: pathlib.Path | None = None
    """Run directory of an interrupted run to continue; its own settings apply."""
    recipe: str | None = None
    """Name of a recipe, or path of a recipe file: its settings become the defaults.
    --recipe alone lists them."""
    pretrained: pathlib.Path | None = None
    """Run directory of a pretraining to use instead of a new one."""
    labels: tuple[float, ...] = (0.01, 0.1)
    """Shares of the labels. Each is fine-tuned and distilled separately."""
    backbone: str = "resnet18"
    """Network that is pretrained and becomes the teacher, as for pretrain."""
    width: float = 1.0
    """Factor on its number of filters."""
    student: str | None = None
    """The small student. Default: the same architecture as the teacher."""
    student_width: float | None = None
    """Factor on the number of filters of the student: relative to the teacher's, 0.5 by
    default; with --student, on those of that network, 1 by default."""
    input_scale: float = 255
    """Factor on pixels before some networks, as for pretrain. Runs of earlier versions
    keep 1."""
    image_size: int | None = None
    """Side of the views in pixels. Default: as for pretrain."""
    policy: str | None = None
    """How the views of pretraining are made. Default: as for pretrain."""
    head_layers: int = 3
    """Layers of the projection head; 0 for none."""
    from_layer: int = 1
    """Layers of the projection head that fine-tuning keeps."""
    queue_size: int = 0
    """Keys of a momentum memory (--method simclr-memory of pretrain); 0 for plain
    SimCLR."""
    momentum: float = 0.999
    """With --queue-size: momentum of the target network."""
    temperature: float | None = None
    """Temperature of the contrastive loss. Default: 0.5."""
    epochs: int = 100
    """Passes over the data in pretraining."""
    optimizer: str | None = None
    """Optimizer of pretraining, as for pretrain. Default: auto."""
    learning_rate: float | None = None
    """Pretraining: peak of the learning-rate schedule. Default: the reference's."""
    scaling: str = "none"
    """Factor on --learning-rate, as for pretrain."""
    weight_decay: float | None = None
    """Weight decay of pretraining. Default: the reference's for the optimizer."""
    warmup_epochs: float = 10
    """Pretraining: epochs of linear warm-up, at most a tenth of all epochs."""
    finetune_epochs: int | None = None
    """Passes over the labeled images in fine-tuning and in training from scratch.
    Default: as for finetune."""
    finetune_steps: int | None = None
    """Fewest steps of fine-tuning: more epochs than --finetune-epochs are trained if
    they would be fewer steps; twice as many from scratch; 0 for no floor. Default:
    1000."""
    finetune_batch_size: int = 128
    """Images per step in fine-tuning and in training from scratch."""
    finetune_optimizer: str | None = None
    """Optimizer of fine-tuning. Default: as for finetune."""
    distill_epochs: int = 100
    """Passes over the data in each distillation."""
    distill_optimizer: str = "sgd"
    """Optimizer of distillation: lars, sgd or adam."""
    distill_learning_rate: float | None = None
    """Distillation: peak of the learning-rate schedule. Default: as for distill."""
    distill_weight_decay: float | None = None
    """Weight decay of distillation. Default: as for distill."""
    batch_size: int | None = None
    """Global batch size of pretraining and distillation. Default: as for pretrain."""
    chunks: int = 1
    """Parts of each device's batch in pretraining, as for pretrain."""
    seed: int = 0
    """Random seed."""
    strategy: str = "auto"
    """Distribution of pretraining and distillation, as for pretrain."""
    precision: str = "float32"
    """float32, mixed_bfloat16, mixed_float16, or auto, as for pretrain."""
    steps_per_execution: int = 1
    """Training steps per call of the compiled function."""
    smoke: bool = False
    """Train for a few steps on noise with a small network, to check that everything
    runs."""

    def preset(self) -> Preset:
        """Returns the preset of the pretraining."""
        shared: dict[str, Any] = {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "backbone": self.backbone,
            "width": self.width,
            "image_size": self.image_size,
            "policy": self.policy,
            "optimizer": self.optimizer or "auto",
            "input_scale": self.input_scale,
            "learning_rate": self.learning_rate,
            "scaling": self.scaling,
            "weight_decay": self.weight_decay,
            "warmup_epochs": self.warmup_epochs,
            "head_layers": self.head_layers,
            "seed": self.seed,
            "precision": self.precision,
            "chunks": self.chunks,
            "steps_per_execution": self.steps_per_execution,
        }
        if self.temperature is not None:
            shared["temperature"] = self.temperature
        if self.queue_size:
            shared |= {"queue_size": self.queue_size, "momentum": self.momentum}
            return SimCLRMemory(**shared)
        return SimCLR(**shared)
