"""BYOL on ImageNet with ResNet-50: the paper's set-up for batches of 4,096 images and 1,000 epochs.

    python recipes/byol_imagenet.py --data tfds:imagenet2012 --data-dir ~/tensorflow_datasets
    python recipes/byol_imagenet.py --data ~/imagenet  # train/CLASS/*.jpg, val/CLASS/*.jpg
    python recipes/byol_imagenet.py --smoke --strategy mirrored

Hardware: a TPU slice or 8 GPUs.
Time:
Measured here (linear / kNN):
Published: Grill et al. 2020, 1,000 epochs, linear 74.3.

The paper had a TPU v3 of 512 cores. The reference's values for shorter runs:

    --epochs 300 --learning-rate 0.3 --weight-decay 1e-6 --momentum 0.99
    --epochs 100 --learning-rate 0.45 --weight-decay 1e-6 --momentum 0.99

Where a device cannot hold its part of the batch, `--chunks 4` gives the same loss with less memory. The
rate stands inside the momentum of LARS here, outside in the reference: they differ while it changes.
Pixels stay in [0, 1], where the reference subtracts ImageNet's mean. The paper's linear accuracy is of
a classifier trained on crops and flips; here it learns from the features of one view.
"""

import pathlib
from dataclasses import dataclass, replace

import keras
import numpy as np
import tensorflow as tf
import tyro

from keras_ssl import augment, backbones, callbacks, data, distribute, export, methods, optimizers
from keras_ssl.layers import MLPHead
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
    out: pathlib.Path = pathlib.Path("runs/byol_imagenet")
    """Run directory, which all workers see; a run that is there goes on."""
    epochs: int = 1000
    batch_size: int = 4096
    """Images per step, of all devices together."""
    chunks: int = 1
    """Parts of each device's batch that pass through the network one after the other."""
    depth: int = 50
    width: float = 1.0
    image_size: int = 224
    hidden_units: int = 4096
    """Of the projector and the predictor."""
    momentum: float = 0.996
    """At the beginning; it grows to 1."""
    learning_rate: float = 0.2
    """Per 256 images."""
    weight_decay: float = 1.5e-6
    warmup_epochs: int = 10
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
            hidden_units=16,
            warmup_epochs=1,
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
        warmup_steps=settings.warmup_epochs * steps,
    )
    with strategy.scope():
        backbone = network(settings)
        model = methods.BYOL(
            backbone,
            projector=MLPHead(256, settings.hidden_units, batch_norm=True),
            predictor=MLPHead(256, settings.hidden_units, batch_norm=True),
        )
        model.compile(
            optimizers.LARS(schedule, weight_decay=settings.weight_decay),
            chunks=settings.chunks,
            steps_per_execution=settings.steps_per_execution,
        )
    pretrain(
        model,
        train,
        augment.byol(settings.image_size),
        run,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seed=settings.seed,
        callbacks=[callbacks.MomentumEncoder(settings.momentum, final=1.0)],
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
