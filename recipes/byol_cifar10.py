"""BYOL on CIFAR-10 with ResNet-18: the set-up that lightly reports.

    python recipes/byol_cifar10.py --data-dir ~/tensorflow_datasets
    python recipes/byol_cifar10.py --smoke

Hardware: one GPU.
Time:
Measured here (linear / kNN):
Published: lightly, 200 / 800 epochs, kNN .868 / .910; solo-learn, 1,000 epochs, linear 92.58.

Heads, constant momentum and SGD are lightly's. Its loss is the mean of two cosines, a quarter of BYOL's
own 2 (2 - 2 cos), which is used here: its rate of 0.06 per 128 images and decay of 5e-4 (an L2 penalty)
become a quarter and four times as much, and the steps are the same. The views are BYOL's without blur.
"""

import pathlib
from dataclasses import dataclass, replace

import keras
import numpy as np
import tyro

from keras_ssl import augment, backbones, callbacks, data, evaluate, export, methods, optimizers
from keras_ssl.layers import MLPHead
from keras_ssl.pretrain import pretrain
from keras_ssl.report import measure, show
from keras_ssl.run import Run


@dataclass(frozen=True)
class Settings:
    """What can be set on the command line."""

    data_dir: pathlib.Path | None = None
    """Where TensorFlow Datasets keeps CIFAR-10; it is downloaded if it is not there."""
    out: pathlib.Path = pathlib.Path("runs/byol_cifar10")
    """Run directory; a run that is there goes on."""
    epochs: int = 200
    batch_size: int = 512
    width: float = 1.0
    hidden_units: int = 1024
    """Of the projector and the predictor."""
    momentum: float = 0.99
    learning_rate: float = 0.015
    """Per 128 images."""
    weight_decay: float = 2e-3
    knn_every: int = 10
    seed: int = 0
    smoke: bool = False
    """A few steps on noise, to see that everything runs."""


def main(settings: Settings):
    """Pretrains, evaluates and exports."""
    if settings.smoke:
        settings = replace(
            settings, epochs=2, batch_size=16, width=0.125, knn_every=1, hidden_units=16
        )
        pixels = np.random.default_rng(0).integers(0, 256, (96, 32, 32, 3), np.uint8)
        train = data.arrays(pixels[:64], np.arange(64) % 10)
        test = data.arrays(pixels[64:], np.arange(32) % 10)
    else:
        train = data.tfds("cifar10", "train", data_dir=settings.data_dir)
        test = data.tfds("cifar10", "test", data_dir=settings.data_dir)

    is_new = not (settings.out / "config.json").exists()
    run = Run.create(settings.out, vars(settings)) if is_new else Run(settings.out)
    keras.utils.set_random_seed(settings.seed)
    backbone = backbones.ResNet(18, width=settings.width, input_shape=(32, 32, 3))
    untrained = keras.models.clone_model(backbone)
    untrained.set_weights(backbone.get_weights())
    model = methods.BYOL(
        backbone,
        projector=MLPHead(256, settings.hidden_units, batch_norm=True),
        predictor=MLPHead(256, settings.hidden_units, batch_norm=True),
    )
    steps = len(train) // settings.batch_size
    schedule = optimizers.WarmupCosine(
        settings.learning_rate * settings.batch_size / 128, total_steps=settings.epochs * steps
    )
    model.compile(optimizers.SGD(schedule, weight_decay=settings.weight_decay))
    pretrain(
        model,
        train,
        augment.byol(32, blur=False),
        run,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seed=settings.seed,
        callbacks=[
            callbacks.MomentumEncoder(settings.momentum, final=settings.momentum),
            callbacks.KNNMonitor(train, test, every=settings.knn_every),
        ],
    )

    encoders = {
        "raw pixels": evaluate.pixels((32, 32, 3)),
        "untrained": untrained,
        "trained": backbone,
    }
    rows = measure(encoders, train, test, per_class=(1,) if settings.smoke else (1, 5, 10))
    run.add_metrics({"data": "tfds:cifar10", "rows": rows})
    show(rows)
    export.saved_model(backbone, run.export, metrics=run.metrics, recipe=run.config, overwrite=True)


if __name__ == "__main__":
    main(tyro.cli(Settings))
