"""The whole way on scikit-learn's handwritten digits: pretrain, evaluate, export, draw."""

import pathlib
import time

import keras
from rich.console import Console

from keras_ssl import augment, cli, data, evaluate, report
from keras_ssl.backbones import Tiny
from keras_ssl.commands import export_run, loading_lines
from keras_ssl.layers import ProjectionHead
from keras_ssl.methods import SimCLR
from keras_ssl.optimizers import WarmupCosine
from keras_ssl.plots import demo_picture
from keras_ssl.pretrain import pretrain
from keras_ssl.run import Run

_SIDE = 8  # pixels
_BATCH_SIZE = 256
_FEATURES = 256
_TEMPERATURE = 0.5
_LEARNING_RATE = 5e-3


def run_demo(command: cli.Demo, console: Console) -> int:
    """Trains an encoder on digits without labels and shows what it is good for.

    Args:
        command: the settings.
        console: where to print.

    Returns:
        0.
    """
    train, test = data.digits("train"), data.digits("test")
    out = command.out or pathlib.Path("runs", f"demo-{time.strftime('%Y%m%d-%H%M%S')}")
    settings = {
        "method": "simclr",
        "data": "digits",
        "backbone": f"Tiny, {_FEATURES} features",
        "policy": "centred",
        "epochs": command.epochs,
        "batch_size": _BATCH_SIZE,
        "temperature": _TEMPERATURE,
        "learning_rate": _LEARNING_RATE,
        "seed": command.seed,
    }
    run = Run.create(out, settings)
    console.print(f"SimCLR on {len(train)} handwritten digits, no labels. Run: {run.path}")

    keras.utils.set_random_seed(command.seed)
    backbone = Tiny((_SIDE, _SIDE, 1), features=_FEATURES)
    untrained = keras.models.clone_model(backbone)
    untrained.set_weights(backbone.get_weights())
    model = SimCLR(backbone, ProjectionHead(128), temperature=_TEMPERATURE)
    steps = command.epochs * (len(train) // _BATCH_SIZE)
    model.compile(keras.optimizers.Adam(WarmupCosine(_LEARNING_RATE, steps, steps // 20)))
    policy = augment.centred(_SIDE)
    history = pretrain(model, train, policy, run, command.epochs, _BATCH_SIZE, command.seed)

    encoders = {
        "raw pixels": evaluate.pixels((_SIDE, _SIDE, 1)),
        "untrained": untrained,
        "trained": backbone,
    }
    rows = report.measure(encoders, train, test, seed=command.seed, progress=False)
    run.add_metrics({"data": "digits", "rows": rows})
    report.show(rows, console)

    picture = demo_picture(history, untrained, backbone, train, test, policy, run.path / "demo.png")
    path = export_run(run, backbone, run.export)
    console.print(f"Picture: {picture}\nMetrics: {run.path / 'metrics.json'}\nSavedModel: {path}\n")
    console.print("To use the encoder:")
    console.print(loading_lines(path), highlight=False, soft_wrap=True)
    return 0
