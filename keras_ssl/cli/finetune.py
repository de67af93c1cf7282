"""`keras-ssl finetune`: trains an encoder further with all labels or with few."""

import pathlib
import shutil
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

from keras_ssl.cli.checks import check_data, check_least, check_model
from keras_ssl.cli.export import load_value_range
from keras_ssl.cli.finetune_classifier import (
    finetune,
    print_label_counts,
    show,
    write_classifier,
)
from keras_ssl.cli.finetune_options import OPTIMIZERS, FinetuneOptions
from keras_ssl.presets import AUGMENTATIONS, check_rate, spell
from keras_ssl.runs.paths import absolute_path, check_new


@dataclass(frozen=True)
class Finetune(FinetuneOptions):
    """Train an encoder further with all labels or with few, into a run directory."""

    def check(self):
        """Checks the options without importing TensorFlow; raises an error that names the wrong one."""
        check_model(self.run)
        check_data(self.data)
        if self.out is not None:
            check_new(self.out)
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

    def execute(self) -> int:
        """Fine-tunes and tests, and writes the classifier and the results; returns the exit status."""
        from keras_ssl import export
        from keras_ssl.data.open_source import open_labeled
        from keras_ssl.runs.console import open_console
        from keras_ssl.runs.directory import Run

        console = open_console()
        run = Run(self.run)
        model: Any = run.method() if run.exists else export.load(self.run)
        channels = getattr(model, "backbone", model).input_shape[-1]
        out = default_out("finetune", self.data, self.out)
        Run(out).check_new()
        value_range = load_value_range(self.run)
        train, test = open_labeled(
            self.data,
            self.data_dir,
            channels,
            self.seed,
            console,
            strict=True,
            value_range=value_range or "full",
        )
        saved = replace(
            self,
            run=self.run.absolute(),
            data=str(absolute_path(self.data)),
            data_dir=self.data_dir and self.data_dir.absolute(),
            out=out,
        )
        images = {
            "class_names": train.class_names,
            "value_range": value_range and value_range.to_json(),
        }
        print_label_counts(train, [self.labels], console)
        # Before training, because a directory that cannot be written must not cost its result.
        created = Run.create(out, {**asdict(saved), **images})
        try:
            result = finetune(model, train, test, self, console)
        except BaseException:
            shutil.rmtree(created.path)
            raise
        write_classifier(result, created)
        show(result, console)
        console.print(f"Written: {out}\n  keras-ssl distill {out} --data DATA")
        console.print(f"  keras-ssl predict {out} --data DATA")
        return 0


def default_out(command: str, data: str | None, out: pathlib.Path | None) -> pathlib.Path:
    """Returns the run directory to create: `out`, or one that is named after command, data and time."""
    word = pathlib.Path(str(data).removeprefix("tfds:")).stem
    return out or pathlib.Path("runs", f"{command}-{word}-{time.strftime('%Y%m%d-%H%M%S')}")
