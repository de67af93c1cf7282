"""`keras-ssl finetune`: trains an encoder further with all labels or with few."""

import pathlib
import time
from dataclasses import asdict, replace
from typing import Any

import keras

from keras_ssl import cli, cost, evaluate, names
from keras_ssl import export as exporting
from keras_ssl.commands.console import open_console, report_skipped
from keras_ssl.commands.evaluate import set_aside
from keras_ssl.commands.export import load_method
from keras_ssl.data import Source
from keras_ssl.evaluate import Finetuned
from keras_ssl.run import Run
from keras_ssl.sources import opened


def run(command: cli.Finetune) -> int:
    """Fine-tunes, tests, and writes the classifier beside its measurements."""
    console = open_console()
    is_run = (command.run / "config.json").is_file()
    model = load_method(Run(command.run)) if is_run else exporting.load(command.run)
    backbone: Any = getattr(model, "backbone", model)
    channels = backbone.input_shape[-1]
    train, test = opened(command.data, command.data_dir, channels)
    report_skipped(console, train, test)
    if test is None:
        train, test = set_aside(train, command.seed)
        console.print(f"No test images of their own: {len(test)} of the images were set aside.")
    word = pathlib.Path(command.data.removeprefix("tfds:")).stem
    out = command.out or pathlib.Path("runs", f"finetune-{word}-{time.strftime('%Y%m%d-%H%M%S')}")
    refuse_existing(out)
    result = finetuned(model, train, test, command)
    write(result, Run.create(out, asdict(replace(command, out=out))))
    console.print(str(result))
    console.print(f"Written: {out}\n  keras-ssl distill {out} --data DATA")
    return 0


def finetuned(model: keras.Model, train: Source, test: Source, command: cli.Finetune) -> Finetuned:
    """Returns the outcome of fine-tuning a model as the settings say."""
    backbone: Any = getattr(model, "backbone", model)
    size = backbone.input_shape[1]
    settings: dict[str, Any] = {
        "labels": command.labels,
        "epochs": command.epochs,
        "batch_size": command.batch_size,
        "learning_rate": command.learning_rate,
        "every": command.every,
        "seed": command.seed,
        "warmup_epochs": command.warmup_epochs,
        "augmentation": names.augmentation(command.augmentation, command.data, size),
    }
    if command.from_scratch:
        if command.from_layer:
            raise ValueError(
                "--from-scratch begins with an untrained backbone, without a head. "
                f"Received: --from-layer {command.from_layer}"
            )
        if command.weight_decay is not None:
            settings["weight_decay"] = command.weight_decay
        return evaluate.supervised(backbone, train, test, **settings)
    return evaluate.finetune(
        model,
        train,
        test,
        from_layer=command.from_layer,
        optimizer=command.optimizer,
        weight_decay=command.weight_decay or 0.0,
        **settings,
    )


def write(result: Finetuned, run: Run):
    """Writes what fine-tuning made: the classifier as a SavedModel, its history and measurements."""
    network = result.network
    if network is None:
        raise ValueError("The outcome must have its network. Received: network=None")
    measured = {"accuracy": result.accuracy, **cost.cost(network).to_dict()}
    exporting.saved_model(network, run.export, metrics=measured, recipe=run.config, overwrite=True)
    for line in result.history:
        run.add_epoch(int(line["epoch"]), {k: v for k, v in line.items() if k != "epoch"})
    run.add_metrics({**measured, "result": result.to_dict()})


def refuse_existing(out: pathlib.Path):
    """Raises FileExistsError where a run would overwrite something, before the work."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(
            "A run needs a new directory, so that nothing is overwritten. "
            f"Received: --out {out}, which is not empty"
        )
