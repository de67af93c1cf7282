"""SimCLRv2 on ImageNet: pretrain a big ResNet, fine-tune it with 1 % or 10 % of the labels, distil it.

    python recipes/simclrv2_imagenet.py --data tfds:imagenet2012 --data-dir ~/tensorflow_datasets
    python recipes/simclrv2_imagenet.py --data ~/imagenet --depth 152 --width 3  # train/CLASS/*.jpg
    python recipes/simclrv2_imagenet.py --smoke --strategy mirrored

Hardware: a TPU slice or 8 GPUs.
Time:
Measured here (fine-tuned / self-distilled / ResNet-50 student, 1 % then 10 % of the labels):
Published: Chen et al. 2020. ResNet-50 with selective kernels (the default here): linear 74.6,
fine-tuned 64.5 / 72.1. ResNet-152, three times as wide: linear 79.8, fine-tuned 74.9 / 80.1; its
ResNet-50 student 73.9 / 77.5.

The paper had a TPU v3 of 128 cores. Its numbers are those with the momentum memory; `--queue-size 0`
leaves it out, as the reference's code does. Where a device cannot hold its part of the batch,
`--chunks 4` gives the same loss with less memory. The rate of pretraining and distillation is the
reference code's rule, 0.075 * sqrt(batch). Fine-tuning goes on from the first layer of the head. The
first student has the teacher's own form and weights, the second is a plain ResNet-50 that learns from
the first.
"""

import pathlib
from dataclasses import dataclass, replace

import keras
import numpy as np
import tensorflow as tf
import tyro

from keras_ssl import (
    augment,
    backbones,
    callbacks,
    data,
    distill,
    distribute,
    evaluate,
    export,
    methods,
    optimizers,
)
from keras_ssl.layers import ProjectionHead
from keras_ssl.pretrain import pretrain
from keras_ssl.run import Run


@dataclass(frozen=True)
class Settings:
    """What can be set on the command line."""

    data: str = "tfds:imagenet2012"
    """tfds:<name>, with the splits train and validation; or a folder with train and val folders of
    classes."""
    data_dir: pathlib.Path | None = None
    """Where TensorFlow Datasets keeps its data sets."""
    out: pathlib.Path = pathlib.Path("runs/simclrv2_imagenet")
    """Run directory, which all workers see, with one of each stage within; a run that is there goes
    on."""
    labels: tuple[float, ...] = (0.01, 0.1)
    """Shares of the labels, each fine-tuned and distilled apart."""
    epochs: int = 800
    """Of pretraining."""
    finetune_epochs: int | None = None
    """By default the paper's 60 with up to 5 % of the labels, 30 with more."""
    distill_epochs: int = 400
    batch_size: int = 4096
    """Images per step of pretraining and distillation, of all devices together."""
    finetune_batch_size: int = 1024
    chunks: int = 1
    """Parts of each device's batch that pass through the network one after the other."""
    depth: int = 50
    width: float = 1.0
    sk_ratio: float = 0.0625
    """Of selective kernels; 0 for a plain ResNet."""
    head_layers: int = 3
    queue_size: int = 65536
    """Keys of the momentum memory; 0 for SimCLR without one."""
    momentum: float = 0.999
    image_size: int = 224
    temperature: float = 0.1
    """Of the contrastive loss."""
    learning_rate: float = 0.075
    """Of pretraining and distillation, times the root of the batch size."""
    weight_decay: float = 1e-4
    warmup_epochs: int = 10
    seed: int = 0
    strategy: str = "auto"
    """A TPU if there is one, else several workers, else several GPUs; or none, mirrored, multi_worker,
    tpu."""
    precision: str | None = None
    """By default mixed_bfloat16 on GPUs and TPUs, float32 on CPUs."""
    steps_per_execution: int = 1
    """Steps that run without returning to Python; more on TPUs."""
    smoke: bool = False
    """A few steps on noise, to see that everything runs."""


def network(settings: Settings, student: bool = False) -> keras.Model:
    """Returns the network that is trained, or the small student's, with new weights."""
    shape = (settings.image_size, settings.image_size, 3)
    if settings.smoke:
        return backbones.Tiny(shape, features=8 if student else 16)
    if student:
        return backbones.ResNet(50, input_shape=shape)
    return backbones.ResNet(
        settings.depth, settings.width, sk_ratio=settings.sk_ratio, input_shape=shape
    )


def main(settings: Settings):
    """Pretrains, fine-tunes and distils; each network is tested and exported."""
    strategy = distribute.strategy(settings.strategy)  # before anything else of TensorFlow
    if settings.smoke:
        settings = replace(
            settings,
            labels=(0.5,),
            epochs=2,
            finetune_epochs=1,
            distill_epochs=1,
            batch_size=16,
            finetune_batch_size=8,
            image_size=32,
            queue_size=24,
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

    keras.utils.set_random_seed(settings.seed)
    accelerated = any(tf.config.list_logical_devices(kind) for kind in ("GPU", "TPU"))
    default = "mixed_bfloat16" if accelerated else "float32"
    keras.config.set_dtype_policy(settings.precision or default)
    whole = begun(settings.out, settings, strategy)
    with strategy.scope():
        backbone = network(settings)
        head = ProjectionHead(128, depth=settings.head_layers)
        model: methods.SelfSupervised
        if settings.queue_size:
            model = methods.SimCLRMemory(backbone, head, settings.queue_size, settings.temperature)
        else:
            model = methods.SimCLR(backbone, head, settings.temperature)
        model.compile(
            optimizer(settings, settings.epochs, len(train)),
            chunks=settings.chunks,
            steps_per_execution=settings.steps_per_execution,
        )
    moving = [callbacks.MomentumEncoder(settings.momentum, final=settings.momentum)]
    pretrain(
        model,
        train,
        augment.simclr(settings.image_size),
        begun(settings.out / "pretrain", settings, strategy),
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seed=settings.seed,
        callbacks=moving if settings.queue_size else [],
    )

    rows = {}
    for share in settings.labels:
        own = settings.out / f"labels-{share:g}"
        tuned = begun(own / "fine-tuned", settings, strategy)
        if not tuned.metrics:
            with strategy.scope():
                # The rate is the paper's, 0.005 * sqrt(batch), without weight decay or warm-up.
                result = evaluate.finetune(
                    model,
                    train,
                    test,
                    labels=share,
                    from_layer=1,
                    epochs=settings.finetune_epochs or (60 if share <= 0.05 else 30),
                    batch_size=settings.finetune_batch_size,
                    optimizer="lars",
                    every=10,
                    seed=settings.seed,
                )
            write(result.network, test, tuned, strategy)
        again = begun(own / "self-distilled", settings, strategy)
        if not again.metrics:
            with strategy.scope():
                student = export.load(tuned.export)  # it begins with its teacher's weights
            distilled(tuned.export, student, 0.1, train, again, settings, strategy)
            write(distill.calibrated(student, 0.1), test, again, strategy)
        small = begun(own / "small-student", settings, strategy)
        if not small.metrics:
            with strategy.scope():
                encoder = network(settings, student=True)
                classes = export.load(again.export).output_shape[-1]
                layer = keras.layers.Dense(classes, dtype="float32")
                student = keras.Sequential([encoder, layer], name="student")
            distilled(again.export, student, 1.0, train, small, settings, strategy)
            write(student, test, small, strategy)
        for stage in (tuned, again, small):
            rows[f"{share:g} {stage.path.name}"] = stage.metrics
    if distribute.is_chief(strategy):
        whole.add_metrics({"data": settings.data, "rows": rows})
        for name, row in rows.items():
            print(name, ", ".join(f"{key} {value:,.6g}" for key, value in row.items()), sep=": ")


def begun(path: pathlib.Path, settings: Settings, strategy: distribute.Strategy) -> Run:
    """Returns a run directory: the one that is there, or a new one, which the first worker makes."""
    run = Run(path)
    if distribute.is_chief(strategy) and not run.is_begun:
        Run.create(path, vars(settings))
    distribute.gather(strategy, 0)  # the other workers wait until it is there
    return run


def optimizer(settings: Settings, epochs: int, images: int) -> keras.optimizers.Optimizer:
    """Returns the optimizer of pretraining or distillation, which the paper trains alike."""
    steps = images // settings.batch_size
    schedule = optimizers.WarmupCosine(
        optimizers.scaled_learning_rate(settings.learning_rate, settings.batch_size, "sqrt"),
        total_steps=epochs * steps,
        warmup_steps=min(settings.warmup_epochs, epochs - 1) * steps,
    )
    return optimizers.LARS(schedule, weight_decay=settings.weight_decay)


def distilled(
    teacher: pathlib.Path,
    student: keras.Model,
    temperature: float,
    train: data.Source,
    run: Run,
    settings: Settings,
    strategy: distribute.Strategy,
):
    """Trains a student on what a teacher says of all images; labels are not seen."""
    with strategy.scope():
        distiller = distill.Distiller(teacher, student, temperature=temperature)
        distiller.compile(
            optimizer(settings, settings.distill_epochs, len(train)),
            steps_per_execution=settings.steps_per_execution,
        )
    pretrain(
        distiller,
        train,
        augment.crop_and_flip(settings.image_size),
        run,
        epochs=settings.distill_epochs,
        batch_size=settings.batch_size,
        seed=settings.seed,
    )


def write(network: keras.Model, test: data.Source, run: Run, strategy: distribute.Strategy):
    """Writes what came of a stage: the network and its accuracy, which the first worker measures."""
    weights = network.get_weights()
    if distribute.is_chief(strategy):
        # On one device, as whoever loads the export has it.
        single = keras.models.clone_model(network)
        single.set_weights(weights)
        found = evaluate.extract(single, test)
        accuracy = float(np.mean(np.argmax(found.values, axis=1) == found.targets))
        measured = {"accuracy": accuracy, "parameters": single.count_params()}
        export.saved_model(single, run.export, metrics=measured, recipe=run.config, overwrite=True)
        run.add_metrics(measured)
    distribute.gather(strategy, 0)  # the other workers wait until it is done


if __name__ == "__main__":
    main(tyro.cli(Settings))
