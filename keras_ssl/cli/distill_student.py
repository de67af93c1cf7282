"""Trains, tests and writes the student of a distillation."""

import pathlib
from dataclasses import asdict
from typing import TYPE_CHECKING

from keras_ssl.cli.distill_options import DistillOptions
from keras_ssl.presets import build_augmentation, build_backbone, build_optimizer
from keras_ssl.presets.batch_size import default_batch_size
from keras_ssl.runs.paths import is_run

if TYPE_CHECKING:
    import keras
    from rich.console import Console

    from keras_ssl.data import Source
    from keras_ssl.distribute import Strategy
    from keras_ssl.runs import Run

_OUTPUTS = "teacher_outputs.npz"


def distill(
    settings: DistillOptions,
    train: "Source",
    run: "Run",
    strategy: "Strategy",
    console: "Console | None" = None,
) -> "keras.Model":
    """Returns the trained student. Its logits are divided by the temperature of training.

    Args:
        settings: complete settings.
        train: images.
        run: run directory. It keeps the checkpoints, from which an interrupted run continues. If the
            epochs or the place of the images differ from those in its `config.json`, they are written.
        strategy: how training is distributed.
        console: where to print what a larger number of epochs means; `None` prints nothing.

    Raises:
        keras_ssl.callbacks.Interrupted: if a signal stopped the run; its state is saved.
    """
    import keras

    precision = keras.config.dtype_policy().name
    keras.utils.set_random_seed(settings.seed)
    keras.config.set_dtype_policy(settings.precision)
    try:
        return _distill(settings, train, run, strategy, console)
    finally:
        keras.config.set_dtype_policy(precision)


def _distill(
    settings: DistillOptions,
    images: "Source",
    run: "Run",
    strategy: "Strategy",
    console: "Console | None",
) -> "keras.Model":
    from keras_ssl import distribute
    from keras_ssl.data.classes import number_labels
    from keras_ssl.distill import Distiller, TeacherOutputs, calibrated, load_teacher, precompute
    from keras_ssl.runs import going_on
    from keras_ssl.runs.training import train

    path = teacher_directory(settings.teacher)
    outputs = run.path / _OUTPUTS
    if settings.precompute and not outputs.is_file():
        precompute(load_teacher(path), images, outputs)
    temperature = settings.temperature or 1.0
    with strategy.scope():
        teacher = load_teacher(path)
        student = _build_student(settings, teacher)
        distiller = Distiller(
            TeacherOutputs.load(outputs, images) if settings.precompute else teacher,
            student,
            temperature=temperature,
            labelled_weight=settings.labelled_weight,
        )
        batch_size = settings.batch_size or default_batch_size(len(images))
        steps = len(images) // batch_size
        warmup = min(settings.warmup_epochs, settings.epochs // 10)
        optimizer = build_optimizer(
            settings.optimizer,
            settings.learning_rate,
            settings.weight_decay,
            batch_size,
            total_steps=settings.epochs * steps,
            warmup_steps=warmup * steps,
            factor=1.0 if settings.learning_rate else min(1.0, temperature),
        )
        distiller.compile(optimizer, steps_per_execution=settings.steps_per_execution)
    if settings.labelled_weight and images.has_labels:
        images = number_labels(images, run.config.get("class_names"), student.output_shape[-1])
    lengthened = going_on.describe_lengthening(run, distiller, settings.epochs)
    if lengthened is not None and console is not None:
        console.print(lengthened)
    if distribute.is_chief(strategy):
        going_on.record(run, asdict(settings))
    crops = build_augmentation(settings.augmentation, settings.data, student.input_shape[1])
    train(distiller, images, crops, run, settings.epochs, batch_size, seed=settings.seed)
    return calibrated(student, temperature)


def write_student(student: "keras.Model", test: "Source | None", run: "Run") -> dict[str, float]:
    """Returns and writes the cost and the accuracy of a student, and exports it as a SavedModel.

    If the export fails, the run keeps the network; see `keras_ssl.runs.network_file`. The class names
    and the range of pixel values are those in the run's `config.json`.
    """
    from keras_ssl import evaluate
    from keras_ssl.runs.classification import measure_classifier
    from keras_ssl.runs.export_classifier import export_classifier
    from keras_ssl.runs.network_file import keep_network

    known = run.config.get("class_names")
    with keep_network(student, run.path):
        measured: dict[str, float] = evaluate.cost(student).to_dict()
        if test is not None and test.has_labels:
            result = measure_classifier(student, known, test)
            if result is not None:
                accuracies = {key: getattr(result, key) for key in ("accuracy", "mean_per_class")}
                measured = {**accuracies, **measured}
        run.add_metrics(measured)
        export_classifier(student, run, measured)
    return measured


def teacher_directory(teacher: pathlib.Path | None) -> pathlib.Path:
    """Returns the SavedModel of a run directory, or the directory itself if it is no run.

    Raises:
        ValueError: if there is no teacher.
    """
    if teacher is None:
        raise ValueError("`distill` needs a teacher: a directory. Received: none")
    return teacher / "export" if is_run(teacher) else teacher


def teacher_class_names(settings: DistillOptions) -> dict[str, list[str] | None]:
    """Returns the setting `class_names` of a distillation: the teacher's classes, if it names them."""
    from keras_ssl.export.class_names import read_class_names

    return {"class_names": read_class_names(teacher_directory(settings.teacher))}


def _build_student(settings: DistillOptions, teacher: "keras.Model") -> "keras.Model":
    from keras_ssl.evaluate.classifier import with_classes
    from keras_ssl.evaluate.encoder_part import encoder

    if settings.student is None:
        return encoder(teacher)
    side, _, channels = teacher.input_shape[1:]
    shape = (side, side, channels)
    backbone = build_backbone(settings.student, settings.student_width, shape, settings.input_scale)
    return with_classes(backbone, teacher.output_shape[-1], settings.seed, name="student")
