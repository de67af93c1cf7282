"""MoCo v2 on CIFAR-10 for two CPU cores: a network of 0.65 million parameters, in about 25 minutes.

    python recipes/moco_v2_cifar10_cpu.py --data-dir ~/tensorflow_datasets
    python recipes/moco_v2_cifar10_cpu.py --smoke

Hardware: two CPU cores (Intel Xeon with AVX-512 and AMX).
Time: 37 minutes of pretraining beside other programs, 25 of processor time. Evaluation: 8 minutes.
Measured here (linear / kNN), commit ba80841, 2026-11-22: untrained 35.8 / 30.2, trained 61.2 / 56.9.
docs/results.md has few labels.

The views are version 2's without blur (the pictures have 32 pixels). From the reference's CIFAR-10
notebook come the queue of 4,096 keys, the split batch normalisation and the momentum of 0.99. What a
short run on a small network changes: the first convolution has stride 2, and the rate is higher.
"""

import pathlib
from dataclasses import dataclass, replace

import keras
import numpy as np
import tyro

from keras_ssl import augment, backbones, callbacks, data, evaluate, export, methods, optimizers
from keras_ssl.layers import MLPHead, split_batch_norm
from keras_ssl.pretrain import pretrain
from keras_ssl.report import measure, show
from keras_ssl.run import Run


@dataclass(frozen=True)
class Settings:
    """What can be set on the command line."""

    data_dir: pathlib.Path | None = None
    """Where TensorFlow Datasets keeps CIFAR-10; it is downloaded if it is not there."""
    out: pathlib.Path = pathlib.Path("runs/moco_v2_cifar10_cpu")
    """Run directory; a run that is there goes on."""
    epochs: int = 15
    batch_size: int = 256
    filters: int = 48
    """Of the first stage; the second and the third have two and four times as many."""
    queue_size: int = 4096
    momentum: float = 0.99
    temperature: float = 0.2
    groups: int = 8
    """Parts of the batch that are normalised apart."""
    learning_rate: float = 0.4
    weight_decay: float = 5e-4
    seed: int = 0
    smoke: bool = False
    """A few steps on noise, to see that everything runs."""


def main(settings: Settings):
    """Pretrains, evaluates and exports."""
    if settings.smoke:
        settings = replace(settings, epochs=2, batch_size=16, filters=8, queue_size=40)
        pixels = np.random.default_rng(0).integers(0, 256, (96, 32, 32, 3), np.uint8)
        train = data.arrays(pixels[:64], np.arange(64) % 10)
        test = data.arrays(pixels[64:], np.arange(32) % 10)
    else:
        train = data.tfds("cifar10", "train", data_dir=settings.data_dir)
        test = data.tfds("cifar10", "test", data_dir=settings.data_dir)

    is_new = not (settings.out / "config.json").exists()
    run = Run.create(settings.out, vars(settings)) if is_new else Run(settings.out)
    keras.utils.set_random_seed(settings.seed)
    backbone = split_batch_norm(backbones.SmallResNet(settings.filters), settings.groups)
    untrained = keras.models.clone_model(backbone)
    untrained.set_weights(backbone.get_weights())
    model = methods.MoCo(
        backbone, MLPHead(128), queue_size=settings.queue_size, temperature=settings.temperature
    )
    steps = len(train) // settings.batch_size
    schedule = optimizers.WarmupCosine(
        settings.learning_rate, total_steps=settings.epochs * steps, warmup_steps=steps // 2
    )
    model.compile(optimizers.SGD(schedule, weight_decay=settings.weight_decay))
    pretrain(
        model,
        train,
        augment.moco_v2(32, blur=False),
        run,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seed=settings.seed,
        callbacks=[
            callbacks.MomentumEncoder(settings.momentum, final=settings.momentum),
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
