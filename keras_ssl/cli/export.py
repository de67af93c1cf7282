"""`keras-ssl export`: writes an encoder as a SavedModel, for LiteRT or as ONNX."""

import pathlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tyro

from keras_ssl.presets import unknown_name

if TYPE_CHECKING:
    import keras
    import numpy as np

_SUFFIXES = {"savedmodel": "", "lite": ".tflite", "onnx": ".onnx"}


@dataclass(frozen=True)
class Export:
    """Write an encoder as a SavedModel that can be served and fine-tuned, for LiteRT or as ONNX."""

    run: tyro.conf.Positional[pathlib.Path]
    """Run directory; for lite and onnx also the directory of an export."""
    out: pathlib.Path | None = None
    """Directory or file to write; an existing one is replaced. Default: <run>/export,
    <run>/encoder.tflite (with --quantize encoder-float16.tflite or
    encoder-int8.tflite), <run>/encoder.onnx."""
    format: str = "savedmodel"
    """savedmodel, lite or onnx."""
    quantize: str | None = None
    """Number format of the weights in a lite file: float16 or int8. Default:
    float32."""
    calibration: str | None = None
    """For int8: typical images, as --data for pretrain. Default: those of the run."""
    data_dir: pathlib.Path | None = None
    """Directory of TensorFlow Datasets."""
    calibration_images: int = 128
    """Number of images that are used for calibration, spread over the data."""

    def execute(self) -> int:
        """Writes and checks the file or directory; returns the exit status."""
        if self.format not in _SUFFIXES:
            raise unknown_name("format", self.format, _SUFFIXES)
        if self.format != "lite" and (self.quantize or self.calibration):
            raise ValueError(
                "--quantize and --calibration are for --format lite. "
                f"Received: --format {self.format}"
            )
        from keras_ssl import export
        from keras_ssl.runs.console import open_console
        from keras_ssl.runs.directory import Run

        console = open_console()
        run = Run(self.run)
        if self.format == "savedmodel":
            with console.status("Writing and checking the SavedModel"):
                path = run.export(self.out)
            console.print(f"Written and checked: {path}")
            console.print(loading_lines(path))
            return 0
        encoder = load_encoder(self.run)
        kind = f"-{self.quantize}" if self.quantize else ""
        out = self.out or self.run / f"encoder{kind}{_SUFFIXES[self.format]}"
        if self.out is None and not run.exists:
            raise ValueError(
                "An export directory is not changed. Expected: --out FILE. "
                f"Received: {str(self.run)!r}, and no --out"
            )
        with console.status(f"Writing and checking {out.name}"):
            if self.format == "onnx":
                path = export.onnx(encoder, out, overwrite=True)
            else:
                images = self._calibration_images(encoder) if self.quantize == "int8" else None
                path = export.lite(encoder, out, self.quantize, images, overwrite=True)
        size = path.stat().st_size / 2**20
        console.print(f"Written and checked: {path} ({size:.2f} MiB)")
        return 0

    def _calibration_images(self, encoder: "keras.Model") -> "np.ndarray":
        """Returns images, prepared as for evaluation, that are spread over the data."""
        import numpy as np

        from keras_ssl.data.open_source import open_source
        from keras_ssl.evaluate.inputs import prepare
        from keras_ssl.runs.directory import Run

        data, data_dir = self.calibration, self.data_dir
        if data is None and Run(self.run).exists:
            config = Run(self.run).config
            data, data_dir = config.get("data"), data_dir or config.get("data_dir")
        if data is None:
            raise ValueError(
                "int8 needs typical images: --calibration DATA. "
                f"Received: {str(self.run)!r}, which does not name any"
            )
        images, _ = open_source(data, data_dir, encoder.input_shape[-1])
        count = min(self.calibration_images, len(images))
        chosen = images.subset(np.linspace(0, len(images) - 1, count).astype(np.int64))
        batches, _ = prepare(chosen.dataset(), encoder.input_shape, count, None, images.name)
        return next(iter(batches))[0].numpy()


def load_encoder(path: pathlib.Path) -> "keras.Model":
    """Returns the encoder of a run directory or of an export.

    Raises:
        FileNotFoundError: if there is no such directory, or the run has no checkpoint yet.
        ValueError: if it is neither a run nor an export.
    """
    from keras_ssl import export
    from keras_ssl.runs.directory import Run

    run = Run(path)
    return run.encoder() if run.exists else export.load(path)


def loading_lines(path: pathlib.Path) -> str:
    """Returns the three lines of Python that load an export."""
    return (
        "import keras_ssl\n"
        f"encoder = keras_ssl.export.load({str(path)!r})\n"
        "features = encoder(images)  # float32 images in [0, 1], "
        "(batch, height, width, channels)"
    )
