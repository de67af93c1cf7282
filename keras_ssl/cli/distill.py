"""`keras-ssl distill`: trains a student on the predictions of a teacher, without labels."""

import pathlib
from dataclasses import asdict, dataclass, replace

from keras_ssl.cli.checks import EXPORT_FILE, check_data, check_least, check_strategy
from keras_ssl.cli.distill_options import DistillOptions
from keras_ssl.cli.distill_student import (
    distill,
    teacher_class_names,
    teacher_directory,
    write_student,
)
from keras_ssl.cli.export import load_value_range
from keras_ssl.cli.finetune import default_out
from keras_ssl.presets import AUGMENTATIONS, OPTIMIZERS, backbone_names, check_rate, spell
from keras_ssl.presets.batch_size import default_batch_size
from keras_ssl.runs.paths import absolute_path, check_new, describe, read_config
from keras_ssl.runs.settings import check_unchanged, lengthened_epochs, read_settings


@dataclass(frozen=True)
class Distill(DistillOptions):
    """Train a student on the predictions of a teacher, without labels, into a run directory."""

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
            student = distill(settings, train, run, strategy, console)
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
        saved = self.read(path)
        epochs = lengthened_epochs(saved.epochs, self.epochs)
        same = asdict(saved)  # also the defaults, see `defaults_of_run`
        check_unchanged(same, {**asdict(self), "epochs": saved.epochs}, same)
        return replace(
            saved,
            data=absolute_path(self.data or saved.data),
            data_dir=self.data_dir or saved.data_dir,
            out=path,
            epochs=epochs,
            strategy=self.strategy,
        )

    @classmethod
    def read(cls, path: pathlib.Path) -> "Distill":
        """Returns the settings of a run.

        Raises:
            FileNotFoundError: if there is no run.
            ValueError: if it is a run of another command.
        """
        required = ("teacher", "student", "temperature")
        expected = "--resume takes the run directory of a distillation."
        return read_settings(cls, read_config(path), path, required, expected)
