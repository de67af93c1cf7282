"""The command line: `keras-ssl pretrain | evaluate | finetune | distill | simclrv2 | export | demo`.

Only settings are here, so that `--help` answers at once; what a command does is in
`keras_ssl.commands`, which imports TensorFlow.
"""

import contextlib
import importlib
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Pretrain:
    """Train an encoder on images without labels, into a run directory."""

    method: str = "simclr"
    """Self-supervised method: simclr, simclr-memory, moco, byol or memory-bank."""
    data: str | None = None
    """digits, tfds:<name>, an .npz file (x_train, ... or images, labels), or a folder of images (JPEG,
    PNG, BMP, GIF; flat, or in sub-folders of classes, or with train and val folders)."""
    data_dir: pathlib.Path | None = None
    """Where TensorFlow Datasets keeps its data sets."""
    out: pathlib.Path | None = None
    """Run directory to make; by default runs/<method>-<data>-<date and time>."""
    resume: pathlib.Path | None = None
    """Run directory of an interrupted run to go on with; its own settings hold. With --data, a run
    begins there if there is none: one command line for the first start and every restart."""
    epochs: int = 100
    """Passes over the data."""
    batch_size: int = 256
    """Images per step, over all devices."""
    backbone: str = "resnet18"
    """resnet18, 34, 50, 101, 152, 200, small-resnet, tiny, or a network of keras.applications by its
    name."""
    width: float = 1.0
    """Factor on the number of filters (resnet, small-resnet, tiny)."""
    image_size: int | None = None
    """Side of the views in pixels; by default that of the images if they are square and of one size,
    224 otherwise."""
    channels: int = 3
    """Channels that the images of a folder are decoded to: 3, or 1 for grey."""
    policy: str | None = None
    """How views are made: simclr, moco-v1, moco-v2, byol; without blur, for images of up to 64 pixels,
    simclr-small (half the jitter), moco-v2-small, byol-small; centred (handwriting and the like). By
    default centred for digits, otherwise the method's own for the size (memory-bank: moco-v1)."""
    temperature: float | None = None
    """Temperature of the loss; by default simclr 0.5 (the paper's best for CIFAR-10; 0.1 for ImageNet),
    simclr-memory 0.1, moco 0.2, memory-bank 0.07. byol has none."""
    embedding: int | None = None
    """Dimension of the embeddings that the loss compares; by default 128, byol 256."""
    head_layers: int | None = None
    """Dense layers of the projection head: by default 2 for simclr, and 3, as in SimCLRv2, for
    simclr-memory. The other methods' heads have their papers' form."""
    momentum: float | None = None
    """What the target network of simclr-memory, moco and byol keeps of itself at each step; by default
    0.999, byol 0.996. A run of few steps wants less: 0.99, and 0.97 for byol."""
    final_momentum: float | None = None
    """Momentum at the end of the run; by default byol 1, the others the one that they begin with."""
    queue_size: int | None = None
    """Keys in the queue of moco and simclr-memory; by default half the images, at most 65536."""
    groups: int | None = None
    """Parts of the batch that moco normalises apart, 1 for none; by default the most up to 8 that
    leave 16 images or more to each, and divide evenly over the devices."""
    probe: bool = False
    """Train a linear classifier beside the method and show its accuracy, for data with labels. The
    encoder learns nothing from it."""
    optimizer: str | None = None
    """lars, sgd or adam; by default sgd for moco and memory-bank, lars for the others."""
    learning_rate: float | None = None
    """Peak of the schedule; by default the reference's for the optimizer and the batch size."""
    weight_decay: float | None = None
    """By default the reference's for the optimizer."""
    warmup_epochs: int = 10
    """Epochs of linear warm-up, at most a tenth of all."""
    knn_every: int = 10
    """Epochs between kNN accuracies during training, if the data have labels; 0 for none."""
    knn_data: str | None = None
    """Labelled data for the kNN accuracy, if they are not the training data."""
    seed: int = 0
    """Of weights, order and views: the same seed gives the same run."""
    strategy: str = "auto"
    """Distribution: none, mirrored (all GPUs of this machine), multi_worker (TF_CONFIG or SLURM), tpu,
    or auto, which takes what there is."""
    precision: str = "float32"
    """float32, mixed_bfloat16 or mixed_float16."""
    chunks: int = 1
    """Parts of each device's batch that pass through the networks one after the other: less memory, a
    third more work, the same loss over the whole batch."""
    steps_per_execution: int = 1
    """Steps that run without returning to Python."""
    views_on: str = "host"
    """Where colour and blur are done: host, beside the training; or step, within it, on the device that
    trains, for one that waits for its host. The pixels are the same."""


@dataclass(frozen=True)
class Evaluate:
    """Measure a frozen encoder with labelled images: kNN and linear, with all labels and with few."""

    run: tyro.conf.Positional[pathlib.Path]
    """Run directory, or the directory of an export."""
    data: str
    """Labelled images, as for pretrain. Without test images of their own, a fifth is set aside."""
    data_dir: pathlib.Path | None = None
    """Where TensorFlow Datasets keeps its data sets."""
    labels_per_class: tuple[int, ...] = (1, 5, 10)
    """Numbers of labelled images per class; classes with fewer images drop a number."""
    draws: int = 10
    """Random draws of few labels, over which mean and spread are taken."""
    baselines: bool = False
    """Also measure raw pixels and the same encoder untrained (runs only)."""
    batch_size: int = 256
    """Images per forward pass."""
    seed: int = 0
    """Of the draws, and of the split where there are no test images."""


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
    optimizer: str = "lars"
    """lars or sgd; from scratch always sgd."""
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
    """Layers of the projection head."""
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


@dataclass(frozen=True)
class Export:
    """Write a run's encoder as a SavedModel that can be served and fine-tuned."""

    run: tyro.conf.Positional[pathlib.Path]
    """Run directory."""
    out: pathlib.Path | None = None
    """Directory to write; by default <run>/export, which is replaced."""


@dataclass(frozen=True)
class Demo:
    """Pretrain on scikit-learn's handwritten digits and evaluate, in about a minute on two cores."""

    out: pathlib.Path | None = None
    """Run directory to make; by default runs/demo-<date and time>."""
    epochs: int = 200
    """Passes over the 1,437 training images."""
    seed: int = 0
    """Of everything random."""


Command = (
    Annotated[Pretrain, tyro.conf.subcommand("pretrain")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Finetune, tyro.conf.subcommand("finetune")]
    | Annotated[Distill, tyro.conf.subcommand("distill")]
    | Annotated[SimCLRv2, tyro.conf.subcommand("simclrv2")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Demo, tyro.conf.subcommand("demo")]
)

# What a user can mend: shown as one message, without the lines of code that found it.
_USER_ERRORS = (ValueError, TypeError, OSError, ImportError, FloatingPointError)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command and exits: 0 when done, 1 on an error, 130 or 143 if a signal stopped it.

    Args:
        arguments: words after the program's name; `sys.argv` unless given.

    Example:
        >>> main(["pretrain", "--data", "digits", "--epochs", "2"])
    """
    command = tyro.cli(
        Command,  # type: ignore[arg-type]
        prog="keras-ssl",
        description="Self-supervised pretraining for Keras: pretrain, evaluate, distil, export.",
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    try:
        with _quiet_start():
            name = type(command).__name__.lower()
            module = importlib.import_module(f"keras_ssl.commands.{name}")
            # Not the logical ones: several workers must meet before those exist.
            importlib.import_module("tensorflow").config.list_physical_devices()
        status = module.run(command)
    except _USER_ERRORS as error:
        if os.environ.get("KERAS_SSL_TRACEBACK"):
            raise
        print(f"keras-ssl: error: {error}", file=sys.stderr)
        print("(KERAS_SSL_TRACEBACK=1 shows where it was raised)", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        print("keras-ssl: stopped", file=sys.stderr)
        status = 130
    raise SystemExit(status)


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Keeps what TensorFlow's libraries print while they load, and shows it only if they fail."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as messages:
        os.dup2(messages.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(kept, 2)
            messages.seek(0)
            sys.stderr.write(messages.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


if __name__ == "__main__":
    main()
