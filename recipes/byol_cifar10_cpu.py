"""BYOL on CIFAR-10 for two CPU cores: a network of 0.65 million parameters, in about 25 minutes.

    python recipes/byol_cifar10_cpu.py --data-dir ~/tensorflow_datasets
    python recipes/byol_cifar10_cpu.py --smoke

Hardware: two CPU cores (Intel Xeon with AVX-512 and AMX).
Time: 63 minutes of pretraining beside other programs, 41 of processor time. Evaluation: 6 minutes.
Measured here (linear / kNN), commit ba80841, 2026-11-22: untrained 35.8 / 30.2, trained 64.3 / 57.4.
docs/results.md has few labels.

The views are BYOL's without blur (the pictures have 32 pixels). What a short run on a small network
changes: the first convolution has stride 2, the heads are narrower, the first momentum is lower (the
paper's own shorter trainings have lower ones), and SGD takes the place of LARS.
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
    out: pathlib.Path = pathlib.Path("runs/byol_cifar10_cpu")
    """Run directory; a run that is there goes on."""
    epochs: int = 15
    batch_size: int = 128
    filters: int = 48
    """Of the first stage; the second and the third have two and four times as many."""
    hidden_units: int = 1024
    """Of the projector and the predictor."""
    momentum: float = 0.95
    """Of the first step; it rises to 1."""
    learning_rate: float = 0.2
    weight_decay: float = 1e-3
    seed: int = 0
    smoke: bool = False
    """A few steps on noise, to see that everything runs."""


def main(settings: Settings):
    """Pretrains, evaluates and exports."""
    if settings.smoke:
        settings = replace(settings, epochs=2, batch_size=16, filters=8, hidden_units=16)
        pixels = np.random.default_rng(0).integers(0, 256, (96, 32, 32, 3), np.uint8)
        train = data.arrays(pixels[:64], np.arange(64) % 10)
        test = data.arrays(pixels[64:], np.arange(32) % 10)
    else:
        train = data.tfds("cifar10", "train", data_dir=settings.data_dir)
        test = data.tfds("cifar10", "test", data_dir=settings.data_dir)

    is_new = not (settings.out / "config.json").exists()
    run = Run.create(settings.out, vars(settings)) if is_new else Run(settings.out)
    keras.utils.set_random_seed(settings.seed)
    backbone = backbones.SmallResNet(settings.filters)
    untrained = keras.models.clone_model(backbone)
    untrained.set_weights(backbone.get_weights())
    model = methods.BYOL(
        backbone,
        projector=MLPHead(256, settings.hidden_units, batch_norm=True),
        predictor=MLPHead(256, settings.hidden_units, batch_norm=True),
    )
    steps = len(train) // settings.batch_size
    schedule = optimizers.WarmupCosine(
        settings.learning_rate, total_steps=settings.epochs * steps, warmup_steps=steps // 2
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
            callbacks.MomentumEncoder(settings.momentum, final=1.0),
            callbacks.KNNMonitor(train, test, every=5),
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
