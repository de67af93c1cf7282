"""`keras-ssl export`: writes a run's encoder as a SavedModel, for LiteRT or as ONNX."""

import pathlib

import keras
import numpy as np

from keras_ssl import callbacks, cli, names, run_settings
from keras_ssl import export as exporting
from keras_ssl.commands.console import open_console
from keras_ssl.evaluate.inputs import prepare
from keras_ssl.methods import SelfSupervised
from keras_ssl.run import Run
from keras_ssl.sources import opened

_ENDINGS = {"savedmodel": "", "lite": ".tflite", "onnx": ".onnx"}


def run(command: cli.Export) -> int:
    """Writes a run's encoder in the format that was asked for."""
    if command.format not in _ENDINGS:
        raise names.unknown("format", command.format, _ENDINGS)
    if command.format != "lite" and (command.quantize or command.calibration):
        raise ValueError(
            "--quantize and --calibration are for --format lite. "
            f"Received: --format {command.format}"
        )
    console = open_console()
    if command.format == "savedmodel":
        run = Run(command.run)
        with console.status("Writing and checking the SavedModel"):
            path = export_run(run, load_backbone(run), command.out or run.export)
        console.print(f"Written and checked: {path}")
        console.print(loading_lines(path))
        return 0
    backbone = load_encoder(command.run)
    kind = f"-{command.quantize}" if command.quantize else ""
    out = command.out or command.run / f"encoder{kind}{_ENDINGS[command.format]}"
    if command.out is None and not Run(command.run).is_begun:
        raise ValueError(
            "Nothing is added to an export. Expected: --out FILE. "
            f"Received: {str(command.run)!r}, and no --out"
        )
    with console.status(f"Writing and checking {out.name}"):
        if command.format == "onnx":
            path = exporting.onnx(backbone, out, overwrite=True)
        else:
            images = _calibration(command, backbone) if command.quantize == "int8" else None
            path = exporting.lite(backbone, out, command.quantize, images, overwrite=True)
    size = path.stat().st_size / 2**20
    console.print(f"Written and checked: {path} ({size:.2f} MiB)")
    return 0


def load_encoder(path: pathlib.Path) -> keras.Model:
    """Returns the network of a run directory or of an export.

    Of a pretraining it is the newest checkpoint's encoder; of other runs, what they exported.

    Raises:
        FileNotFoundError: if there is no such directory, or the run has no checkpoint yet.
        ValueError: if it is neither.
    """
    run = Run(path)
    if not run.is_begun:
        return exporting.load(path)
    return load_backbone(run) if "method" in run.config else exporting.load(run.export)


def _calibration(command: cli.Export, backbone: keras.Model) -> np.ndarray:
    """Returns images, prepared as for evaluation, that are spread over the data."""
    data, data_dir = command.calibration, command.data_dir
    if data is None and Run(command.run).is_begun:
        config = Run(command.run).config
        data, data_dir = config.get("data"), data_dir or config.get("data_dir")
    if data is None:
        raise ValueError(
            "int8 needs images of the kind that the network will see: --calibration DATA. "
            f"Received: {str(command.run)!r}, which names none"
        )
    channels = backbone.input_shape[-1]
    images, _ = opened(data, None if data_dir is None else pathlib.Path(data_dir), channels)
    count = min(command.calibration_images, len(images))
    chosen = images.subset(np.linspace(0, len(images) - 1, count).astype(np.int64))
    batches, _ = prepare(chosen.dataset(), backbone.input_shape, count, None, images.name)
    return next(iter(batches))[0].numpy()


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
