"""`keras-ssl finetune`: trains an encoder further with all labels or with few."""

import pathlib
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from keras_ssl.cli.checks import check_data, check_least, check_model
from keras_ssl.cli.export import load_value_range
from keras_ssl.cli.finetune_classifier import (
    GIVEN_EPOCHS,
    prepare,
    print_label_counts,
    settings_of_run,
    show,
    train_classifier,
    write_classifier,
)
from keras_ssl.cli.finetune_options import OPTIMIZERS, FinetuneOptions
from keras_ssl.presets import AUGMENTATIONS, check_rate, spell
from keras_ssl.runs.paths import absolute_path, check_new, read_config
from keras_ssl.runs.settings import check_unchanged, lengthened_epochs, read_settings

if TYPE_CHECKING:
    from rich.console import Console

    from keras_ssl.evaluate.fine_tuning import FineTuning
    from keras_ssl.runs import Run


@dataclass(frozen=True)
class Finetune(FinetuneOptions):
    """Train an encoder further with all labels or with few, into a run directory."""

    def check(self):
        """Checks the options without importing TensorFlow; raises an error that names the wrong one."""
        settings = self._resume() if self.resume else self._complete()
        if settings.run is None:
            raise ValueError(
                "`finetune` needs an encoder: the directory of a run or of an export. Received: none"
            )
        check_model(settings.run)
        check_data(settings.data)
        if self.resume is None and self.out is not None:
            check_new(self.out)

    def execute(self) -> int:
        """Fine-tunes or resumes, tests the classifier and writes it; returns the exit status."""
        settings = self._resume() if self.resume else self._complete()
        from keras_ssl import callbacks, export
        from keras_ssl.data.image_folder import RULES
        from keras_ssl.data.open_source import open_labeled
        from keras_ssl.runs.console import describe_stop, open_console
        from keras_ssl.runs.directory import Run

        console = open_console()
        pretrained, run = Run(str(settings.run)), Run(str(settings.out))
        if self.resume:
            self._check_checkpoints(run, settings)
        else:
            run.check_new()
        model: Any = pretrained.method() if pretrained.exists else export.load(pretrained.path)
        # A run that goes on finds, reads and scales its images as when it started.
        rules = run.config.get("data_rules", RULES) if self.resume else RULES
        value_range = run.value_range if self.resume else load_value_range(pretrained.path)
        train, test = open_labeled(
            str(settings.data),
            settings.data_dir,
            getattr(model, "backbone", model).input_shape[-1],
            settings.seed,
            console,
            strict=True,
            value_range=value_range or "full",
            rules=rules,
        )
        print_label_counts(train, [settings.labels], console)
        prepared = prepare(model, train, test, settings, console)
        if self.resume:
            _lengthen(run, prepared, settings, console)
        else:
            images = {
                "class_names": train.class_names,
                "value_range": value_range and value_range.to_json(),
                "data_rules": rules,
            }
            Run.create(run.path, settings_of_run(settings, prepared, run, images))
        console.print(f"Run: {run.path}")
        try:
            result = train_classifier(prepared, run)
        except callbacks.Interrupted as stop:
            console.print(describe_stop(stop.step, f"keras-ssl finetune --resume {run.path}"))
            return 128 + stop.signal
        write_classifier(result, run)
        show(result, console)
        console.print(f"Written: {run.path}\n  keras-ssl distill {run.path} --data DATA")
        console.print(f"  keras-ssl predict {run.path} --data DATA")
        return 0

    def _complete(self) -> "Finetune":
        if not 0 < self.labels <= 1:
            raise ValueError(f"--labels must lie in (0, 1]. Received: {self.labels}")
        check_least(1, epochs=self.epochs, batch_size=self.batch_size, every=self.every)
        check_least(0, min_steps=self.min_steps)
        check_least(0, seed=self.seed, warmup_epochs=self.warmup_epochs, from_layer=self.from_layer)
        check_rate("--learning-rate", self.learning_rate)
        check_rate("--weight-decay", self.weight_decay, zero=True)
        if self.optimizer is not None:
            spell("optimizer", self.optimizer, OPTIMIZERS)
        if self.augmentation is not None:
            spell("augmentation", self.augmentation, AUGMENTATIONS)
        if self.from_scratch and self.from_layer:
            raise ValueError(
                "--from-scratch starts with an untrained backbone, without a head. "
                f"Received: --from-layer {self.from_layer}"
            )
        return replace(
            self,
            run=self.run and self.run.absolute(),
            data=absolute_path(self.data),
            data_dir=self.data_dir and self.data_dir.absolute(),
            out=default_out("finetune", self.data, self.out),
        )

    def _resume(self) -> "Finetune":
        path = pathlib.Path(str(self.resume))
        config, saved = read_config(path), self.read(path)
        settings = saved
        if GIVEN_EPOCHS in config:
            settings = replace(saved, min_steps=0)  # the epochs are those that are trained
        if self.epochs not in (None, saved.epochs, config.get(GIVEN_EPOCHS)):
            settings = replace(settings, epochs=lengthened_epochs(saved.epochs or 1, self.epochs))
        same = asdict(saved)  # also the defaults, see `defaults_of_run`
        check_unchanged(same, {**asdict(self), "epochs": saved.epochs}, same)
        return replace(
            settings,
            data=absolute_path(self.data or saved.data),
            data_dir=self.data_dir or saved.data_dir,
            out=path,
        )

    @classmethod
    def read(cls, path: pathlib.Path) -> "Finetune":
        """Returns the settings of a run.

        Raises:
            FileNotFoundError: if there is no run.
            ValueError: if it is a run of another command.
        """
        required = ("labels", "from_layer", "from_scratch")
        expected = "--resume takes the run directory of a fine-tuning."
        return read_settings(cls, read_config(path), path, required, expected)

    @staticmethod
    def _check_checkpoints(run: "Run", settings: FinetuneOptions):
        """Refuses to repeat a finished run, which earlier versions left without checkpoints."""
        from keras_ssl.callbacks.checkpoint_files import checkpoints

        if run.metrics and not checkpoints(run.checkpoints):
            raise ValueError(
                "The run is finished and has no checkpoint, because an earlier version trained it. "
                "Expected: a new run. `keras-ssl export` exports its network if that is missing. "
                f"Received: --resume {run.path}"
            )


def _lengthen(run: "Run", prepared: "FineTuning", settings: FinetuneOptions, console: "Console"):
    """Prints and records what differs when a run goes on: more epochs, and the place of its images."""
    from keras_ssl.runs import going_on

    if GIVEN_EPOCHS not in run.config:  # an earlier version started it
        run.update_settings({GIVEN_EPOCHS: settings.epochs, "epochs": prepared.epochs})
    lengthened = going_on.describe_lengthening(run, prepared.classifier, prepared.epochs)
    if lengthened is not None:
        console.print(lengthened)
    going_on.record(run, {**asdict(settings), "epochs": prepared.epochs})


def default_out(command: str, data: str | None, out: pathlib.Path | None) -> pathlib.Path:
    """Returns the run directory to create: `out`, or one that is named after command, data and time."""
    word = pathlib.Path(str(data).removeprefix("tfds:")).stem
    return out or pathlib.Path("runs", f"{command}-{word}-{time.strftime('%Y%m%d-%H%M%S')}")
