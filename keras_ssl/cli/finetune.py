"""`keras-ssl finetune`: trains an encoder further with all labels or with few."""

import pathlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import tyro

from keras_ssl.cli.checks import check_data, check_least, check_model
from keras_ssl.cli.export import load_value_range
from keras_ssl.cli.finetune_length import MIN_STEPS, finetune_epochs
from keras_ssl.presets import AUGMENTATIONS, check_rate, spell
from keras_ssl.runs.paths import absolute_path, check_new

if TYPE_CHECKING:
    import keras
    from rich.console import Console

    from keras_ssl.data import Source
    from keras_ssl.evaluate import Finetuned
    from keras_ssl.runs import Run

_OPTIMIZERS = ("lars", "sgd")


@dataclass(frozen=True)
class Finetune:
    """Train an encoder further with all labels or with few, into a run directory."""

    run: tyro.conf.Positional[pathlib.Path]
    """Run directory of a pretraining, or directory of an export, which has no head."""
    data: str
    """Labeled images, as for pretrain. Without separate test images, a fifth is held
    out."""
    data_dir: pathlib.Path | None = None
    """Directory of TensorFlow Datasets."""
    out: pathlib.Path | None = None
    """Run directory to create. Default: runs/finetune-<data>-<date and time>."""
    labels: float = 0.1
    """Share of the labels to use: 0.01, 0.1, 1.0 or any other; below 1 the same number
    for every class, at most the size of the smallest."""
    from_layer: int | None = None
    """Layers of the projection head to keep; 0 for none. Default: 1 for a run, 0 for an
    export."""
    from_scratch: bool = False
    """Start with untrained weights: supervised training with the same labels, the
    baseline to beat."""
    epochs: int | None = None
    """Passes over the labeled images. Default: 60 (up to 5% of the labels) or 30, and
    more if those would be fewer than 1,000 steps."""
    min_steps: int = MIN_STEPS
    """Fewest steps: more epochs than --epochs are trained if they would be fewer steps;
    twice as many from scratch; 0 for no floor."""
    batch_size: int = 128
    """Images per step."""
    optimizer: str | None = None
    """lars or sgd. Default: lars up to 5% of the labels and sgd above; sgd from
    scratch."""
    learning_rate: float | None = None
    """Peak of the learning-rate schedule. Default: 0.005 * sqrt(batch size) for lars,
    0.05 * batch size / 256 for sgd."""
    weight_decay: float | None = None
    """Weight decay. Default: 0; from scratch 5e-4."""
    warmup_epochs: int = 0
    """Epochs of linear warm-up."""
    augmentation: str | None = None
    """How training images are augmented: crop-flip, or centred (handwriting and other
    centered objects), the default for digits."""
    every: int = 10
    """Epochs between two tests."""
    seed: int = 0
    """Random seed of the choice of labels, the new layer, the order and the crops."""

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
            spell("optimizer", self.optimizer, _OPTIMIZERS)
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


def finetune(
    model: "keras.Model",
    train: "Source",
    test: "Source",
    command: Finetune,
    console: "Console | None" = None,
) -> "Finetuned":
    """Returns the result of fine-tuning a model with the settings of the command."""
    from keras_ssl import evaluate
    from keras_ssl.callbacks import ProgressBar
    from keras_ssl.presets import build_augmentation

    backbone: Any = getattr(model, "backbone", model)
    augmentation = build_augmentation(command.augmentation, command.data, backbone.input_shape[1])
    epochs: int | None = command.epochs
    if epochs is not None and train.labels is not None:
        # An untrained network needs more steps than a pretrained one, see `evaluate.supervised`.
        least = command.min_steps * (2 if command.from_scratch else 1)
        rest = (command.labels, command.batch_size, least, command.seed)
        epochs, reason = finetune_epochs(epochs, train.labels, *rest)
        if reason and console is not None:
            console.print(reason)
    bar = ProgressBar(console=console)
    settings: dict[str, Any] = {
        "labels": command.labels,
        "epochs": epochs,
        "batch_size": command.batch_size,
        "learning_rate": command.learning_rate,
        "every": command.every,
        "seed": command.seed,
        "warmup_epochs": command.warmup_epochs,
        "augmentation": augmentation,
        "callbacks": [bar],
    }
    try:
        if command.from_scratch:
            if command.weight_decay is not None:
                settings["weight_decay"] = command.weight_decay
            return evaluate.supervised(backbone, train, test, **settings)
        return evaluate.finetune(
            model,
            train,
            test,
            from_layer=command.from_layer,
            optimizer=command.optimizer and spell("optimizer", command.optimizer, _OPTIMIZERS),
            weight_decay=command.weight_decay or 0.0,
            **settings,
        )
    finally:
        bar.stop()


def print_label_counts(train: "Source", shares: Sequence[float], console: "Console"):
    """Prints a line for each share of the labels that the smallest class limits."""
    from keras_ssl.evaluate.label_subset import count_labels

    if train.labels is None:
        return  # reported by the evaluation
    for share in shares:
        if line := count_labels(train.labels, share).describe(train.class_names):
            console.print(line)


def write_classifier(result: "Finetuned", run: "Run"):
    """Writes the history and the results of a fine-tuned classifier, and exports it as a SavedModel.

    If the export fails, the run keeps the network; see `keras_ssl.runs.network_file`. The class names
    and the range of pixel values are those in the run's `config.json`.
    """
    from keras_ssl import evaluate
    from keras_ssl.runs.export_classifier import export_classifier
    from keras_ssl.runs.network_file import keep_network

    network = result.network
    if network is None:
        raise ValueError("`result` must contain its network. Received: network=None")
    with keep_network(network, run.path):
        for line in result.history:
            run.add_epoch(int(line["epoch"]), {k: v for k, v in line.items() if k != "epoch"})
        accuracies = {"accuracy": result.accuracy, "mean_per_class": result.mean_per_class}
        measured = {**accuracies, **evaluate.cost(network).to_dict()}
        run.add_metrics({**measured, "result": result.to_dict()})
        export_classifier(network, run, measured)


def show(result: "Finetuned", console: "Console"):
    """Prints the accuracies of a fine-tuning as a table, and its settings below."""
    from rich.table import Table

    protocol = "Supervised from scratch" if result.protocol == "supervised" else "Fine-tuned"
    table = Table(title=f"{protocol}: accuracy in % of {result.test_size:,} test images")
    columns = {"labels": f"{result.train_size:,}", "top 1": f"{100 * result.accuracy:.1f}"}
    if result.top5 is not None:
        columns["top 5"] = f"{100 * result.top5:.1f}"
    mean_per_class = getattr(result, "mean_per_class", None)
    if mean_per_class is not None:
        columns["mean per class"] = f"{100 * mean_per_class:.1f}"
    columns["best of all epochs"] = f"{100 * result.best_accuracy:.1f}"
    for name in columns:
        table.add_column(name, justify="right")
    table.add_row(*columns.values())
    console.print(table)
    settings = Table(title="Settings", show_header=False)
    for name, value in result.settings.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else value
        settings.add_row(
            name.replace("_", " "), f"{text:.4g}" if isinstance(text, float) else str(text)
        )
    console.print(settings)


def default_out(command: str, data: str | None, out: pathlib.Path | None) -> pathlib.Path:
    """Returns the run directory to create: `out`, or one that is named after command, data and time."""
    word = pathlib.Path(str(data).removeprefix("tfds:")).stem
    return out or pathlib.Path("runs", f"{command}-{word}-{time.strftime('%Y%m%d-%H%M%S')}")
