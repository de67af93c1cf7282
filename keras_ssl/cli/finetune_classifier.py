"""Trains, writes and shows the classifier of a fine-tuning."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from keras_ssl.cli.finetune_length import finetune_epochs
from keras_ssl.cli.finetune_options import OPTIMIZERS, FinetuneOptions
from keras_ssl.presets import build_augmentation, spell

if TYPE_CHECKING:
    import keras
    from rich.console import Console

    from keras_ssl.data import Source
    from keras_ssl.evaluate import Finetuned
    from keras_ssl.evaluate.fine_tuning import FineTuning
    from keras_ssl.runs import Run

GIVEN_EPOCHS = "given_epochs"  # setting: the option --epochs; "epochs" are those that are trained
# `Finetuned.history` calls the accuracy on the test images "accuracy".
_HISTORY_NAMES = {
    "accuracy": "train_accuracy",
    "test_accuracy": "accuracy",
    "test_mean_per_class": "mean_per_class",
}


def prepare(
    model: "keras.Model",
    train: "Source",
    test: "Source",
    options: FinetuneOptions,
    console: "Console | None" = None,
) -> "FineTuning":
    """Returns the fine-tuning of a model with the options of the command, ready to be trained.

    More epochs than `options.epochs` are trained if those would be fewer than `options.min_steps`
    steps; `console` prints the reason.
    """
    from keras_ssl.evaluate.fine_tuning import prepare_finetune, prepare_supervised

    backbone: Any = getattr(model, "backbone", model)
    augmentation = build_augmentation(options.augmentation, options.data, backbone.input_shape[1])
    epochs: int | None = options.epochs
    if epochs is not None and train.labels is not None:
        # An untrained network needs more steps than a pretrained one, see `evaluate.supervised`.
        least = options.min_steps * (2 if options.from_scratch else 1)
        rest = (options.labels, options.batch_size, least, options.seed)
        epochs, reason = finetune_epochs(epochs, train.labels, *rest)
        if reason and console is not None:
            console.print(reason)
    settings: dict[str, Any] = {
        "labels": options.labels,
        "epochs": epochs,
        "batch_size": options.batch_size,
        "learning_rate": options.learning_rate,
        "every": options.every,
        "seed": options.seed,
        "warmup_epochs": options.warmup_epochs,
        "augmentation": augmentation,
    }
    if options.from_scratch:
        if options.weight_decay is not None:
            settings["weight_decay"] = options.weight_decay
        return prepare_supervised(backbone, train, test, **settings)
    return prepare_finetune(
        model,
        train,
        test,
        from_layer=options.from_layer,
        optimizer=options.optimizer and spell("optimizer", options.optimizer, OPTIMIZERS),
        weight_decay=options.weight_decay or 0.0,
        **settings,
    )


def settings_of_run(
    options: FinetuneOptions, prepared: "FineTuning", run: "Run", images: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the content of `config.json`, whose "epochs" are those to train.

    Args:
        options: complete options.
        prepared: the fine-tuning.
        run: run directory.
        images: how the images are read: their class names, value range and rules.
    """
    own = replace(options, epochs=prepared.epochs, out=run.path)
    return {**asdict(own), GIVEN_EPOCHS: options.epochs, **images}


def train_classifier(prepared: "FineTuning", run: "Run") -> "Finetuned":
    """Trains a classifier in its run directory, from the newest checkpoint onwards.

    Raises:
        keras_ssl.callbacks.Interrupted: if a signal stopped the run; its state is saved.
    """
    from keras_ssl.runs.training import train

    history = train(
        prepared.classifier,
        prepared.images,
        prepared.crops,
        run,
        prepared.epochs,
        prepared.batch_size,
        seed=prepared.settings["seed"],
        callbacks=[prepared.monitor],
        history_names=_HISTORY_NAMES,
    )
    return prepared.result(history)


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
