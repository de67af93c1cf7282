"""`keras-ssl demo`: pretrains on scikit-learn's handwritten digits, evaluates, exports, draws."""

import pathlib
import time

import keras

from keras_ssl import augment, cli, data, evaluate, report, run_settings
from keras_ssl.callbacks import Interrupted
from keras_ssl.commands.console import open_console
from keras_ssl.commands.export import export_run, loading_lines
from keras_ssl.commands.pretrain import optimizer, stopped
from keras_ssl.layers import ProjectionHead
from keras_ssl.methods import SimCLR
from keras_ssl.plots import demo_picture
from keras_ssl.pretrain import pretrain
from keras_ssl.run import Run

_SIDE = 8  # pixels


def run(command: cli.Demo) -> int:
    """Trains an encoder on digits without labels and shows what it is good for.

    Returns:
        0; 130 or 143 if a signal stopped the training.
    """
    console = open_console()
    train, test = data.digits("train"), data.digits("test")
    out = command.out or pathlib.Path("runs", f"demo-{time.strftime('%Y%m%d-%H%M%S')}")
    # The words of the command line, so that its other commands can work with the run.
    settings = cli.Pretrain(
        data="digits",
        out=out,
        epochs=command.epochs,
        batch_size=256,
        backbone="tiny",
        width=2.0,
        image_size=_SIDE,
        policy="centred",
        temperature=0.5,
        embedding=128,
        optimizer="adam",
        learning_rate=5e-3,
        knn_every=0,
        seed=command.seed,
    )
    run_settings.check_numbers(settings)
    images = run_settings.Images(image_channels=1, image_count=len(train))

    keras.utils.set_random_seed(settings.seed)
    backbone = run_settings.backbone(settings, images)
    untrained = keras.models.clone_model(backbone)
    untrained.set_weights(backbone.get_weights())
    model = SimCLR(backbone, ProjectionHead(128), temperature=0.5)
    model.compile(optimizer(settings, len(train)))
    policy = augment.centred(_SIDE)
    run = Run.create(out, run_settings.as_config(settings, images))
    console.print(f"SimCLR on {len(train)} handwritten digits, no labels. Run: {run.path}")
    try:
        history = pretrain(
            model, train, policy, run, settings.epochs, settings.batch_size, settings.seed
        )
    except Interrupted as stop:
        return stopped(stop, run, console)

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
    console.print(loading_lines(path))
    return 0
