"""`keras-ssl export`: writes a run's encoder as a SavedModel."""

import pathlib

import keras

from keras_ssl import callbacks, cli, run_settings
from keras_ssl import export as exporting
from keras_ssl.commands.console import open_console
from keras_ssl.methods import SelfSupervised
from keras_ssl.run import Run


def run(command: cli.Export) -> int:
    """Writes a run's encoder as a SavedModel."""
    console = open_console()
    run = Run(command.run)
    with console.status("Writing and checking the SavedModel"):
        path = export_run(run, load_backbone(run), command.out or run.export)
    console.print(f"Written and checked: {path}")
    console.print(loading_lines(path))
    return 0


def load_method(run: Run) -> SelfSupervised:
    """Returns the method of a run, heads included, with the weights of its newest checkpoint.

    Raises:
        FileNotFoundError: if the run has no checkpoint yet.
    """
    settings, images = run_settings.of_run(run)
    model = run_settings.network(settings, images)
    if callbacks.restore(model, run.checkpoints) == 0:
        raise FileNotFoundError(
            f"The run must have a checkpoint: train for an epoch first. Received: {str(run.path)!r}"
        )
    return model


def load_backbone(run: Run) -> keras.Model:
    """Returns the encoder of a run's newest checkpoint.

    Raises:
        FileNotFoundError: if the run has no checkpoint yet.
    """
    model = load_method(run)
    # Batch normalisation is split for pretraining alone: whoever fine-tunes has batches of any size.
    encoder = run_settings.backbone(*run_settings.of_run(run))
    encoder.set_weights(model.backbone.get_weights())
    return encoder


def export_run(run: Run, backbone: keras.Model, path: pathlib.Path) -> pathlib.Path:
    """Writes an encoder with its run's settings and metrics; replaces an earlier export."""
    return exporting.saved_model(
        backbone, path, metrics=run.metrics, recipe=run.config, overwrite=True
    )


def loading_lines(path: pathlib.Path) -> str:
    """Returns the three lines of Python that load an export."""
    return (
        "import keras_ssl\n"
        f"encoder = keras_ssl.export.load({str(path)!r})\n"
        "features = encoder(images)  # float32 images in [0, 1], "
        "(batch, height, width, channels)"
    )
