"""MoCo v2 on ImageNet with ResNet-50: the reference's set-up for 200 epochs.

    python recipes/moco_v2_imagenet.py --data tfds:imagenet2012 --data-dir ~/tensorflow_datasets
    python recipes/moco_v2_imagenet.py --data ~/imagenet  # train/CLASS/*.jpg, val/CLASS/*.jpg
    python recipes/moco_v2_imagenet.py --smoke --strategy mirrored

Hardware: 8 GPUs, or 1, 2 or 4.
Time:
Measured here (linear / kNN):
Published: facebookresearch/moco, 200 epochs, linear 67.5; 800 epochs 71.1.

The reference trains on 8 GPUs with 32 images each, normalises each GPU's images by themselves, and
shuffles the keys between them. The batch normalisation in 8 parts does so on any number of devices that
divides 8, with the same result. Weight decay is an L2 penalty of all weights, as in PyTorch. The rate
falls at each step, the reference's at each epoch; there is no warm-up. Pixels stay in [0, 1], where the
reference subtracts ImageNet's mean. The reference's linear accuracy is of a classifier trained on crops
and flips; here it learns from the features of one view.
"""

import pathlib
from dataclasses import dataclass, replace

import keras
import numpy as np
import tensorflow as tf
import tyro

from keras_ssl import augment, backbones, callbacks, data, distribute, export, methods, optimizers
from keras_ssl.layers import MLPHead, split_batch_norm
from keras_ssl.pretrain import pretrain
from keras_ssl.report import measure, show
from keras_ssl.run import Run


@dataclass(frozen=True)
class Settings:
    """What can be set on the command line."""

    data: str = "tfds:imagenet2012"
    """tfds:<name>, with the splits train and validation; or a folder with train and val folders of
    classes."""
    data_dir: pathlib.Path | None = None
    """Where TensorFlow Datasets keeps its data sets."""
    out: pathlib.Path = pathlib.Path("runs/moco_v2_imagenet")
    """Run directory, which all workers see; a run that is there goes on."""
    epochs: int = 200
    batch_size: int = 256
    """Images per step, of all devices together."""
    chunks: int = 1
    """Parts of each device's batch that pass through the network one after the other."""
    depth: int = 50
    width: float = 1.0
    image_size: int = 224
    queue_size: int = 65536
    momentum: float = 0.999
    temperature: float = 0.2
    groups: int = 8
    """Parts of the batch that are normalised apart; a multiple of the number of devices."""
    learning_rate: float = 0.03
    """Per 256 images."""
    weight_decay: float = 1e-4
    seed: int = 0
    strategy: str = "auto"
    """A TPU if there is one, else several workers, else several GPUs; or none, mirrored, multi_worker,
    tpu."""
    precision: str | None = None
    """By default mixed_bfloat16 on GPUs and TPUs, float32 on CPUs."""
    steps_per_execution: int = 1
    """Steps that run without returning to Python; more on TPUs."""
    evaluate: bool = True
    """Measure at the end, on the first device of the first worker; a TPU leaves it to its host."""
    smoke: bool = False
    """A few steps on noise, to see that everything runs."""


def network(settings: Settings) -> keras.Model:
    """Returns the network that is trained, with new weights."""
    shape = (settings.image_size, settings.image_size, 3)
    if settings.smoke:
        return backbones.Tiny(shape, features=16)
    return backbones.ResNet(settings.depth, settings.width, input_shape=shape)


def main(settings: Settings):
    """Pretrains, evaluates and exports."""
    strategy = distribute.strategy(settings.strategy)  # before anything else of TensorFlow
    if settings.smoke:
        settings = replace(
            settings,
            epochs=2,
            batch_size=16,
            image_size=32,
            groups=2,
            queue_size=40,
        )
        pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 40, 3), np.uint8)
        train = data.arrays(pixels[:32], np.arange(32) % 4)
        test = data.arrays(pixels[32:], np.arange(16) % 4)
    elif settings.data.startswith("tfds:"):
        name = settings.data.removeprefix("tfds:")
        train = data.tfds(name, "train", data_dir=settings.data_dir)
        test = data.tfds(name, "validation", data_dir=settings.data_dir)
    else:
        # Nothing is verified: each start would decode all files.
        folder = pathlib.Path(settings.data)
        train = data.image_folder(folder / "train", verify=False)
        test = data.image_folder(folder / "val", verify=False)

    is_chief = distribute.is_chief(strategy)
    run = Run(settings.out)
    if is_chief and not run.is_begun:
        Run.create(settings.out, vars(settings))
    distribute.gather(strategy, 0)  # the other workers wait until it is there
    keras.utils.set_random_seed(settings.seed)
    accelerated = any(tf.config.list_logical_devices(kind) for kind in ("GPU", "TPU"))
    default = "mixed_bfloat16" if accelerated else "float32"
    keras.config.set_dtype_policy(settings.precision or default)
    steps = len(train) // settings.batch_size
    schedule = optimizers.WarmupCosine(
        optimizers.scaled_learning_rate(settings.learning_rate, settings.batch_size),
        total_steps=settings.epochs * steps,
    )
    with strategy.scope():
        backbone = split_batch_norm(network(settings), settings.groups)
        model = methods.MoCo(
            backbone,
            MLPHead(128),
            queue_size=settings.queue_size,
            temperature=settings.temperature,
        )
        model.compile(
            optimizers.SGD(schedule, weight_decay=settings.weight_decay),
            chunks=settings.chunks,
            steps_per_execution=settings.steps_per_execution,
        )
    pretrain(
        model,
        train,
        augment.moco_v2(settings.image_size),
        run,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seed=settings.seed,
        callbacks=[callbacks.MomentumEncoder(settings.momentum, final=settings.momentum)],
    )

    # On one device, in float32, as whoever loads the export has it.
    weights = backbone.get_weights()
    if is_chief:
        keras.config.set_dtype_policy("float32")
        encoder = network(settings)
        encoder.set_weights(weights)
        if settings.evaluate:
            rows = measure({"trained": encoder}, train, test, per_class=())
            run.add_metrics({"data": settings.data, "rows": rows})
            show(rows)
        export.saved_model(
            encoder, run.export, metrics=run.metrics, recipe=run.config, overwrite=True
        )
    distribute.gather(strategy, 0)  # the other workers wait until it is done


if __name__ == "__main__":
    main(tyro.cli(Settings))
