"""SimCLRv2 on CIFAR-10 for two CPU cores: pretrain, fine-tune with 1 % and 10 % of the labels, distil.

    python recipes/simclrv2_cifar10_cpu.py --data-dir ~/tensorflow_datasets
    python recipes/simclrv2_cifar10_cpu.py --smoke

Hardware: two CPU cores (Intel Xeon with AVX-512 and AMX).
Time:
Measured here (accuracy with 1 % / 10 % of the labels; by `keras-ssl simclrv2` with these settings,
docs/results.md): from scratch 39.9 / 67.0, linear 53.7 / 63.2, fine-tuned 55.6 / 70.0, self-distilled
56.1 / 70.2, small student 55.5 / 67.1.

What `keras-ssl simclrv2` does, as a script. The network and the training of the views are those of
simclr_cifar10_cpu.py, with a head of three layers. Fine-tuning and training from scratch have the
defaults of `evaluate.finetune` and `evaluate.supervised`.
"""

import pathlib
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tyro

from keras_ssl import augment, backbones, data, distill, evaluate, export, methods, optimizers
from keras_ssl.cost import cost
from keras_ssl.layers import ProjectionHead
from keras_ssl.pretrain import pretrain
from keras_ssl.run import Run


@dataclass(frozen=True)
class Settings:
    """What can be set on the command line."""

    data_dir: pathlib.Path | None = None
    """Where TensorFlow Datasets keeps CIFAR-10; it is downloaded if it is not there."""
    out: pathlib.Path = pathlib.Path("runs/simclrv2_cifar10_cpu")
    """Run directory, with one of each stage within; a run that is there goes on."""
    labels: tuple[float, ...] = (0.01, 0.1)
    """Shares of the labels, each fine-tuned and distilled apart."""
    epochs: int = 20
    """Of pretraining."""
    finetune_epochs: int | None = None
    """Of fine-tuning and of training from scratch; by default their own."""
    distill_epochs: int = 15
    batch_size: int = 256
    """Of pretraining and distillation."""
    filters: int = 48
    """Of the first stage; the small student has half as many."""
    temperature: float = 0.5
    """Of the contrastive loss."""
    learning_rate: float = 0.5
    """Of pretraining."""
    distill_learning_rate: float = 0.12
    """Times the temperature of the softmaxes, of whose inverse the gradient has a factor."""
    weight_decay: float = 5e-4
    seed: int = 0
    smoke: bool = False
    """A few steps on noise, to see that everything runs."""


def main(settings: Settings):
    """Pretrains, fine-tunes, distils and prints what each network is worth and costs."""
    if settings.smoke:
        settings = replace(
            settings,
            labels=(0.5,),
            epochs=2,
            finetune_epochs=1,
            distill_epochs=1,
            batch_size=16,
            filters=8,
        )
        pixels = np.random.default_rng(0).integers(0, 256, (96, 32, 32, 3), np.uint8)
        train = data.arrays(pixels[:64], np.arange(64) % 10)
        test = data.arrays(pixels[64:], np.arange(32) % 10)
    else:
        train = data.tfds("cifar10", "train", data_dir=settings.data_dir)
        test = data.tfds("cifar10", "test", data_dir=settings.data_dir)

    run = begun(settings.out, settings)
    keras.utils.set_random_seed(settings.seed)
    backbone = backbones.SmallResNet(settings.filters)
    head = ProjectionHead(128, depth=3)
    model = methods.SimCLR(backbone, head, temperature=settings.temperature)
    steps = len(train) // settings.batch_size
    schedule = optimizers.WarmupCosine(
        settings.learning_rate, total_steps=settings.epochs * steps, warmup_steps=steps
    )
    model.compile(optimizers.SGD(schedule, weight_decay=settings.weight_decay))
    pretrain(
        model,
        train,
        augment.simclr(32, strength=0.5, blur=False),
        begun(settings.out / "pretrain", settings),
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seed=settings.seed,
    )

    rows = {}
    for share in settings.labels:
        few: dict[str, Any] = {"labels": share, "epochs": settings.finetune_epochs, "every": 20}
        own = settings.out / f"labels-{share:g}"

        scratch = begun(own / "from-scratch", settings)
        if not scratch.metrics:
            result = evaluate.supervised(backbone, train, test, seed=settings.seed, **few)
            write(result.network, test, scratch)

        linear = begun(own / "linear-probe", settings)
        if not linear.metrics:
            shown = evaluate.label_subset(np.asarray(train.labels), share, settings.seed)
            probe = evaluate.linear(backbone, train.subset(shown), test, inverse_l2=1.0)
            linear.add_metrics({**scratch.metrics, "accuracy": probe.accuracy})

        tuned = begun(own / "fine-tuned", settings)
        if not tuned.metrics:
            result = evaluate.finetune(model, train, test, from_layer=1, seed=settings.seed, **few)
            write(result.network, test, tuned)

        again = begun(own / "self-distilled", settings)
        if not again.metrics:
            student = export.load(tuned.export)  # it begins with its teacher's weights
            distilled(tuned.export, student, 0.1, train, again, settings)
            write(distill.calibrated(student, 0.1), test, again)

        small = begun(own / "small-student", settings)
        if not small.metrics:
            keras.utils.set_random_seed(settings.seed)
            encoder = backbones.SmallResNet(settings.filters // 2)
            student = keras.Sequential([encoder, keras.layers.Dense(10)], name="student")
            distilled(again.export, student, 1.0, train, small, settings)
            write(student, test, small)

        for stage in (scratch, linear, tuned, again, small):
            rows[f"{share:g} {stage.path.name}"] = stage.metrics
    run.add_metrics({"data": "tfds:cifar10", "rows": rows})
    for name, row in rows.items():
        print(name, ", ".join(f"{key} {value:,.6g}" for key, value in row.items()), sep=": ")


def begun(path: pathlib.Path, settings: Settings) -> Run:
    """Returns a run directory: the one that is there, or a new one."""
    run = Run(path)
    return run if run.is_begun else Run.create(path, vars(settings))


def distilled(
    teacher: pathlib.Path,
    student: keras.Model,
    temperature: float,
    train: data.Source,
    run: Run,
    settings: Settings,
):
    """Trains a student on what a teacher says of all images; labels are not seen."""
    distiller = distill.Distiller(teacher, student, temperature=temperature)
    steps = len(train) // settings.batch_size
    schedule = optimizers.WarmupCosine(
        settings.distill_learning_rate * temperature,
        total_steps=settings.distill_epochs * steps,
        warmup_steps=settings.distill_epochs // 10 * steps,
    )
    distiller.compile(optimizers.SGD(schedule, weight_decay=settings.weight_decay))
    pretrain(
        distiller,
        train,
        augment.crop_and_flip(32),
        run,
        epochs=settings.distill_epochs,
        batch_size=settings.batch_size,
        seed=settings.seed,
    )


def write(network: keras.Model, test: data.Source, run: Run):
    """Writes what came of a stage: the network, its accuracy and its cost."""
    found = evaluate.extract(network, test)
    accuracy = float(np.mean(np.argmax(found.values, axis=1) == found.targets))
    measured = {"accuracy": accuracy, **cost(network).to_dict()}
    export.saved_model(network, run.export, metrics=measured, recipe=run.config, overwrite=True)
    run.add_metrics(measured)


if __name__ == "__main__":
    main(tyro.cli(Settings))
