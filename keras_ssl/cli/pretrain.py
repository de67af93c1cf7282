"""The settings of `keras-ssl pretrain`."""

import pathlib
from dataclasses import dataclass


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
    simclr-memory. 1 is a linear head; 0 is none, and then --embedding says nothing. The other methods'
    heads have their papers' form."""
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
