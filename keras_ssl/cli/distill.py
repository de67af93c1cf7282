"""`keras-ssl distill`: trains a student on the predictions of a teacher, without labels."""

import pathlib
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import tyro

from keras_ssl.cli.checks import EXPORT_FILE, check_data, check_least, check_strategy
from keras_ssl.cli.export import load_value_range
from keras_ssl.cli.finetune import default_out
from keras_ssl.presets import (
    AUGMENTATIONS,
    OPTIMIZERS,
    backbone_names,
    build_augmentation,
    build_backbone,
    build_optimizer,
    check_rate,
    spell,
)
from keras_ssl.presets.batch_size import default_batch_size
from keras_ssl.runs.paths import absolute_path, check_new, describe, is_run, read_config
from keras_ssl.runs.settings import check_unchanged, read_settings

if TYPE_CHECKING:
    import keras

    from keras_ssl.data import Source
    from keras_ssl.distribute import Strategy
    from keras_ssl.runs import Run

_OUTPUTS = "teacher_outputs.npz"


@dataclass(frozen=True)
class Distill:
    """Train a student on the predictions of a teacher, without labels, into a run directory."""

    teacher: tyro.conf.Positional[pathlib.Path | None] = None
    """Run directory of a fine-tuning or a distillation, or any SavedModel that returns
    class scores."""
    data: str | None = None
    """Images, as for pretrain. If they have labels and test images, the student is
    tested."""
    data_dir: pathlib.Path | None = None
    """Directory of TensorFlow Datasets."""
    channels: int = 3
    """Channels of the images of a folder: 3, or 1 for grayscale."""
    out: pathlib.Path | None = None
    """Run directory to create. Default: runs/distill-<data>-<date and time>."""
    resume: pathlib.Path | None = None
    """Run directory of an interrupted distillation to continue; its own settings
    apply."""
    student: str | None = None
    """Network, as --backbone for pretrain. Default: the teacher's architecture with the
    teacher's weights (self-distillation)."""
    student_width: float = 1.0
    """Factor on the number of filters of the student."""
    input_scale: float = 255
    """Factor on pixels in [0, 1] before ConvNeXt, EfficientNet and MobileNetV3, as for
    pretrain. Runs of earlier versions keep 1."""
    temperature: float | None = None
    """Temperature of both softmaxes. Default: 0.1 for self-distillation, 1 for another
    student."""
    labelled_weight: float = 0.0
    """Weight of the cross-entropy with the labels of the images, 0 to 1."""
    precompute: bool = False
    """Compute the teacher's predictions once per image before training, instead of for
    every crop."""
    epochs: int = 100
    """Passes over the data."""
    batch_size: int | None = None
    """Global batch size: images per step, over all devices. Default: 256, or the
    largest power of two that is not larger than the data set."""
    augmentation: str | None = None
    """How images are augmented: crop-flip, or centred (handwriting and other centered
    objects), the default for digits."""
    optimizer: str = "sgd"
    """sgd, lars or adam."""
    learning_rate: float | None = None
    """Peak of the learning-rate schedule. Default: the reference's for the optimizer
    and the batch size, times the temperature if that is below 1, because gradients grow
    with its inverse."""
    weight_decay: float | None = None
    """Weight decay. Default: the reference's for the optimizer."""
    warmup_epochs: int = 5
    """Epochs of linear warm-up, at most a tenth of all epochs."""
    seed: int = 0
    """Random seed of weights, order and crops. The same seed gives the same run."""
    strategy: str = "auto"
    """Distribution, as for pretrain."""
    precision: str = "float32"
    """float32, mixed_bfloat16 or mixed_float16."""
    steps_per_execution: int = 1
    """Training steps per call of the compiled function."""

    def check(self):
        """Checks the options without importing TensorFlow; raises an error that names the wrong one."""
        settings = self._resume() if self.resume else self._complete()
        check_data(settings.data)
        check_strategy(settings.strategy)
        if self.resume:
            return
        if self.teacher is None:
            raise ValueError("`distill` needs a teacher: a directory. Received: none")
        teacher = teacher_directory(self.teacher)
        if not (teacher.expanduser() / EXPORT_FILE).is_file():
            raise FileNotFoundError(
                "The teacher must be the directory of a SavedModel, or the run directory of a "
                f"fine-tuning or distillation. Received: {str(self.teacher)!r}, "
                f"{describe(self.teacher)}"
            )
        if self.out is not None:
            check_new(self.out)

    def execute(self) -> int:
        """Distills or resumes, tests the student and writes it; returns the exit status."""
        settings = self._resume() if self.resume else self._complete()
        from keras_ssl import callbacks, distribute
        from keras_ssl.data.image_folder import RULES
        from keras_ssl.data.open_source import open_source, report_skipped
        from keras_ssl.distill import load_teacher
        from keras_ssl.runs.console import describe_stop, open_console
        from keras_ssl.runs.directory import Run

        strategy = distribute.strategy(settings.strategy)
        console = open_console(quiet=not distribute.is_chief(strategy))
        run = Run(str(settings.out))
        # A run that goes on finds, reads and scales its images as when it started.
        rules = run.config.get("data_rules", 1) if self.resume else RULES
        teacher_range = load_value_range(settings.teacher) if settings.teacher else None
        value_range = run.value_range if self.resume else teacher_range
        train, test = open_source(
            str(settings.data),
            settings.data_dir,
            settings.channels,
            value_range=value_range or "full",
            rules=rules,
        )
        report_skipped(console, train, test)
        if settings.batch_size is None:
            batch_size = default_batch_size(len(train), strategy.num_replicas_in_sync)
            settings = replace(settings, batch_size=batch_size)
        if not self.resume:
            run.check_new()
            load_teacher(teacher_directory(settings.teacher))  # fails before a directory is created
            images = {
                "value_range": value_range and value_range.to_json(),
                "data_rules": rules,
            }
            names = teacher_class_names(settings)
            Run.create(run.path, {**asdict(settings), **names, **images})
        console.print(f"Images: {train}\nRun: {run.path}")
        steps = len(train) // (settings.batch_size or len(train))
        console.print(
            f"Length: {settings.epochs:,} epochs of {steps:,} steps of {settings.batch_size} images, "
            f"{settings.epochs * steps:,} steps in all"
        )
        try:
            student = distill(settings, train, run, strategy)
        except callbacks.Interrupted as stop:
            console.print(describe_stop(stop.step, f"keras-ssl distill --resume {run.path}"))
            return 128 + stop.signal
        if distribute.is_chief(strategy):
            measured = write_student(student, test, run)
            console.print(", ".join(f"{name} {value:,.4g}" for name, value in measured.items()))
            console.print(f"Written: {run.export_path}")
        return 0

    def _complete(self) -> "Distill":
        if self.data is None:
            raise ValueError("`distill` needs images. Expected: --data DATA. Received: none")
        if not 0 <= self.labelled_weight <= 1:
            raise ValueError(
                f"--labelled-weight must lie in [0, 1]. Received: {self.labelled_weight}"
            )
        counts = ("epochs", "batch_size", "steps_per_execution")
        check_least(1, **{name: getattr(self, name) for name in counts})
        check_least(0, seed=self.seed, warmup_epochs=self.warmup_epochs)
        check_rate("--learning-rate", self.learning_rate)
        check_rate("--weight-decay", self.weight_decay, zero=True)
        check_rate("--temperature", self.temperature)
        check_rate("--student-width", self.student_width)
        spell("optimizer", self.optimizer, OPTIMIZERS)
        if self.student is not None:
            spell("backbone", self.student, backbone_names())
        if self.augmentation is not None:
            spell("augmentation", self.augmentation, AUGMENTATIONS)
        default = 0.1 if self.student is None else 1.0
        return replace(
            self,
            teacher=self.teacher and self.teacher.absolute(),
            data=absolute_path(self.data),
            data_dir=self.data_dir and self.data_dir.absolute(),
            out=default_out("distill", self.data, self.out),
            temperature=default if self.temperature is None else self.temperature,
        )

    def _resume(self) -> "Distill":
        path = pathlib.Path(str(self.resume))
        saved = read_settings(
            Distill,
            read_config(path),
            path,
            ("teacher", "student", "temperature"),
            "--resume takes the run directory of a distillation.",
        )
        check_unchanged(asdict(saved), asdict(self), asdict(Distill()))
        data, data_dir = self.data or saved.data, self.data_dir or saved.data_dir
        return replace(saved, data=data, data_dir=data_dir, out=path, strategy=self.strategy)


def distill(settings: Distill, train: "Source", run: "Run", strategy: "Strategy") -> "keras.Model":
    """Returns the trained student. Its logits are divided by the temperature of training.

    `run` keeps the checkpoints, from which an interrupted run continues.

    Raises:
        keras_ssl.callbacks.Interrupted: if a signal stopped the run; its state is saved.
    """
    import keras

    precision = keras.config.dtype_policy().name
    keras.utils.set_random_seed(settings.seed)
    keras.config.set_dtype_policy(settings.precision)
    try:
        return _distill(settings, train, run, strategy)
    finally:
        keras.config.set_dtype_policy(precision)


def _distill(
    settings: Distill, images: "Source", run: "Run", strategy: "Strategy"
) -> "keras.Model":
    from keras_ssl.data.classes import number_labels
    from keras_ssl.distill import Distiller, TeacherOutputs, calibrated, load_teacher, precompute
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


def teacher_class_names(settings: Distill) -> dict[str, list[str] | None]:
    """Returns the setting `class_names` of a distillation: the teacher's classes, if it names them."""
    from keras_ssl.export.class_names import read_class_names

    return {"class_names": read_class_names(teacher_directory(settings.teacher))}


def _build_student(settings: Distill, teacher: "keras.Model") -> "keras.Model":
    from keras_ssl.evaluate.classifier import with_classes
    from keras_ssl.evaluate.encoder_part import encoder

    if settings.student is None:
        return encoder(teacher)
    side, _, channels = teacher.input_shape[1:]
    shape = (side, side, channels)
    backbone = build_backbone(settings.student, settings.student_width, shape, settings.input_scale)
    return with_classes(backbone, teacher.output_shape[-1], settings.seed, name="student")
