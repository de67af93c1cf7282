"""`keras-ssl distill`: trains a student on a teacher's predictions, without labels."""

import pathlib
import time
from dataclasses import asdict, replace

import keras

from keras_ssl import callbacks, cli, cost, distribute, names
from keras_ssl import export as exporting
from keras_ssl.commands.console import open_console, report_skipped
from keras_ssl.commands.finetune import refuse_existing
from keras_ssl.commands.pretrain import STOPPED
from keras_ssl.data import Source
from keras_ssl.distill import Distiller, TeacherOutputs, calibrated, load_teacher, precompute
from keras_ssl.evaluate import extract
from keras_ssl.evaluate.classifier import with_classes
from keras_ssl.evaluate.encoder_part import encoder
from keras_ssl.evaluate.result import accuracies, best_classes
from keras_ssl.pretrain import pretrain
from keras_ssl.run import Run
from keras_ssl.saved_settings import refuse_others, saved_settings
from keras_ssl.sources import opened

_OUTPUTS = "teacher_outputs.npz"


def run(command: cli.Distill) -> int:
    """Distils, anew or from where a run stopped; tests the student and writes it."""
    settings = _resumed(command) if command.resume else _completed(command)
    strategy = distribute.strategy(settings.strategy)
    console = open_console(quiet=not distribute.is_chief(strategy))
    train, test = opened(str(settings.data), settings.data_dir, settings.channels)
    report_skipped(console, train, test)
    own = Run(str(settings.out))
    if not command.resume:
        refuse_existing(own.path)
        load_teacher(teacher_directory(settings.teacher))  # before a directory is made
        Run.create(own.path, asdict(settings))
    console.print(f"Images: {train}\nRun: {own.path}")
    try:
        student = distilled(settings, train, own, strategy)
    except callbacks.Interrupted as stop:
        console.print(f"Stopped after step {stop.step}; everything is saved. To go on:")
        console.print(f"  keras-ssl distill --resume {own.path}")
        return STOPPED + stop.signal
    if distribute.is_chief(strategy):
        measured = write(student, test, own)
        console.print(", ".join(f"{name} {value:,.4g}" for name, value in measured.items()))
        console.print(f"Written: {own.export}")
    return 0


def distilled(
    settings: cli.Distill, train: Source, run: Run, strategy: distribute.Strategy
) -> keras.Model:
    """Returns the trained student, its scores divided by the temperature that they were trained at.

    `run` keeps checkpoints, from which an interrupted one goes on.

    Raises:
        keras_ssl.callbacks.Interrupted: if a signal stopped the run; its state is saved.
    """
    keras.utils.set_random_seed(settings.seed)
    keras.config.set_dtype_policy(settings.precision)
    path = teacher_directory(settings.teacher)
    outputs = run.path / _OUTPUTS
    if settings.precompute and not outputs.is_file():
        precompute(load_teacher(path), train, outputs)
    temperature = settings.temperature or 1.0
    with strategy.scope():
        teacher = load_teacher(path)
        student = _student(settings, teacher)
        distiller = Distiller(
            TeacherOutputs.load(outputs, train) if settings.precompute else teacher,
            student,
            temperature=temperature,
            labelled_weight=settings.labelled_weight,
        )
        steps = len(train) // settings.batch_size
        warmup = min(settings.warmup_epochs, settings.epochs // 10)
        optimizer = names.optimizer(
            settings.optimizer,
            settings.learning_rate,
            settings.weight_decay,
            settings.batch_size,
            total_steps=settings.epochs * steps,
            warmup_steps=warmup * steps,
            scale=1.0 if settings.learning_rate else min(1.0, temperature),
        )
        distiller.compile(optimizer, steps_per_execution=settings.steps_per_execution)
    crops = names.augmentation(settings.augmentation, str(settings.data), student.input_shape[1])
    pretrain(distiller, train, crops, run, settings.epochs, settings.batch_size, seed=settings.seed)
    return calibrated(student, temperature)


def write(student: keras.Model, test: Source | None, run: Run) -> dict[str, float]:
    """Writes the student as a SavedModel and returns what was measured of it, which is written too."""
    measured = cost.cost(student).to_dict()
    if test is not None and test.has_labels:
        found = extract(student, test)
        best = best_classes(found.values)
        measured = {
            "accuracy": accuracies(best, found.targets, found.values.shape[1])[0],
            **measured,
        }
    exporting.saved_model(student, run.export, metrics=measured, recipe=run.config, overwrite=True)
    run.add_metrics(measured)
    return measured


def teacher_directory(teacher: pathlib.Path | None) -> pathlib.Path:
    """Returns the SavedModel of a run directory, or the directory itself.

    Raises:
        ValueError: if there is no teacher.
    """
    if teacher is None:
        raise ValueError("`distill` needs a teacher: a directory. Received: none")
    return teacher / "export" if (teacher / "config.json").is_file() else teacher


def _student(settings: cli.Distill, teacher: keras.Model) -> keras.Model:
    if settings.student is None:
        return encoder(teacher)
    side, _, channels = teacher.input_shape[1:]
    backbone = names.backbone(settings.student, settings.student_width, (side, side, channels))
    return with_classes(backbone, teacher.output_shape[-1], settings.seed, name="student")


def _completed(command: cli.Distill) -> cli.Distill:
    if command.data is None:
        raise ValueError("`distill` needs images. Expected: --data DATA. Received: none")
    if not 0 <= command.labelled_weight <= 1:
        raise ValueError(
            f"--labelled-weight must lie in [0, 1]. Received: {command.labelled_weight}"
        )
    for name in ("epochs", "batch_size", "steps_per_execution"):
        if getattr(command, name) < 1:
            word = name.replace("_", "-")
            raise ValueError(f"--{word} must be at least 1. Received: {getattr(command, name)}")
    word = pathlib.Path(command.data.removeprefix("tfds:")).stem
    out = pathlib.Path("runs", f"distill-{word}-{time.strftime('%Y%m%d-%H%M%S')}")
    own = 0.1 if command.student is None else 1.0
    return replace(
        command,
        out=command.out or out,
        temperature=own if command.temperature is None else command.temperature,
    )


def _resumed(command: cli.Distill) -> cli.Distill:
    run = Run(str(command.resume))
    settings = saved_settings(
        run, cli.Distill, "--resume takes the run directory of a distillation."
    )
    refuse_others(settings, command)
    return replace(settings, out=run.path, strategy=command.strategy)
