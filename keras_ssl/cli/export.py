"""`keras-ssl export`: writes an encoder as a SavedModel, for LiteRT or as ONNX."""

import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tyro

from keras_ssl.cli.checks import check_data, check_least, check_model
from keras_ssl.presets import lookup, spell
from keras_ssl.runs.paths import is_run

if TYPE_CHECKING:
    import keras
    import numpy as np

    from keras_ssl.data.value_range import ValueRange

_SUFFIXES = {"savedmodel": "", "lite": ".tflite", "onnx": ".onnx"}
_FORMATS = {**{name: name for name in _SUFFIXES}, "tflite": "lite", "litert": "lite"}
_QUANTIZE = ("float16", "int8")


@dataclass(frozen=True)
class Export:
    """Write an encoder as a SavedModel that can be served and fine-tuned, for LiteRT or as ONNX."""

    run: tyro.conf.Positional[pathlib.Path]
    """Run directory; for lite and onnx also the directory of an export."""
    out: pathlib.Path | None = None
    """Directory or file to write; an existing one is replaced. Default: <run>/export,
    <run>/encoder.tflite (with --quantize encoder-float16.tflite or
    encoder-int8.tflite), <run>/encoder.onnx; with --block <run>/export-<block>,
    <run>/encoder-<block>.tflite, ..."""
    format: str = "savedmodel"
    """savedmodel, lite (also called tflite) or onnx."""
    block: str | None = None
    """Export the encoder up to this block only, such as block3, with its features
    averaged over all places. keras-ssl evaluate --by-block measures which is best."""
    quantize: str | None = None
    """Number format of the weights in a lite file: float16 or int8. Default:
    float32."""
    calibration: str | None = None
    """For int8: typical images, as --data for pretrain. Default: those of the run."""
    data_dir: pathlib.Path | None = None
    """Directory of TensorFlow Datasets."""
    calibration_images: int = 128
    """Number of images that are used for calibration, spread over the data."""

    def check(self):
        """Checks the options without importing TensorFlow; raises an error that names the wrong one."""
        kind = lookup("format", self.format, _FORMATS)
        if kind != "lite" and (self.quantize or self.calibration):
            raise ValueError(
                "--quantize and --calibration are for --format lite. "
                f"Received: --format {self.format}"
            )
        if self.quantize is not None:
            spell("number format", self.quantize, _QUANTIZE)
        check_least(1, calibration_images=self.calibration_images)
        if self.calibration is not None:
            check_data(self.calibration, "--calibration")
        check_model(self.run)
        if is_run(self.run):
            return
        if kind == "savedmodel":
            raise ValueError(
                "Only a run can be exported as a SavedModel; this directory is an export already. "
                f"Expected: a run directory, or --format lite or onnx. Received: {str(self.run)!r}"
            )
        if self.out is None:
            raise ValueError(
                "An export directory is not changed. Expected: --out FILE. "
                f"Received: {str(self.run)!r}, and no --out"
            )
        if self.quantize and spell("number format", self.quantize, _QUANTIZE) == "int8":
            self._check_calibration(None)

    def _check_calibration(self, data: str | None):
        if self.calibration is None and data is None:
            raise ValueError(
                "int8 needs typical images: --calibration DATA. "
                f"Received: {str(self.run)!r}, which does not name any"
            )

    def execute(self) -> int:
        """Writes and checks the file or directory; returns the exit status."""
        form = lookup("format", self.format, _FORMATS)
        quantize = self.quantize and spell("number format", self.quantize, _QUANTIZE)
        from keras_ssl import export
        from keras_ssl.export.class_names import read_output_name
        from keras_ssl.runs.console import open_console
        from keras_ssl.runs.directory import Run

        console = open_console()
        run = Run(self.run)
        if form == "savedmodel":
            with console.status("Writing and checking the SavedModel"):
                path = run.export(self.out, self.block)
            console.print(f"Written and checked: {path}")
            console.print(loading_lines(path, run.config if self.block is None else None))
            return 0
        encoder = run.network() if run.exists else export.load(self.run)
        output = None if run.exists or self.block else read_output_name(self.run)
        kind = "".join(f"-{word}" for word in (self.block, quantize) if word)
        out = self.out or self.run / f"encoder{kind}{_SUFFIXES[form]}"
        with console.status(f"Writing and checking {out.name}"):
            if form == "onnx":
                path = export.onnx(encoder, out, overwrite=True, output=output, block=self.block)
            else:
                images = self._calibration_images(encoder) if quantize == "int8" else None
                path = export.lite(
                    encoder, out, quantize, images, overwrite=True, output=output, block=self.block
                )
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
        self._check_calibration(data)
        images, _ = open_source(
            str(data),
            data_dir,
            encoder.input_shape[-1],
            value_range=load_value_range(self.run) or "full",
        )
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
    from keras_ssl.evaluate.classifier_parts import encoder_of_classifier
    from keras_ssl.runs.directory import Run

    run = Run(path)
    if run.exists:
        return run.encoder()
    network = export.load(path)
    encoder = encoder_of_classifier(network)
    return network if encoder is None else encoder


def load_classifier(path: pathlib.Path) -> "tuple[keras.Model, list[str]]":
    """Returns the classifier of a fine-tuned or distilled run or of its export, and its class names.

    Raises:
        FileNotFoundError: if there is no such directory, or the run has not finished yet.
        ValueError: if it has no classifier.
    """
    from keras_ssl import export
    from keras_ssl.evaluate.classifier_parts import encoder_of_classifier
    from keras_ssl.export.class_names import complete_class_names, read_class_names
    from keras_ssl.runs.directory import Run

    run = Run(path)
    network = run.network() if run.exists else export.load(path)
    if encoder_of_classifier(network) is None:
        raise ValueError(
            "Predictions need a classifier: the run of `keras-ssl finetune` or `keras-ssl distill`, or "
            f"its export. Received: {str(path)!r}, which is an encoder without classes. To train a "
            f"classifier: keras-ssl finetune {path} --data LABELED"
        )
    names = run.class_names if run.exists else read_class_names(path)
    return network, complete_class_names(names, network.output_shape[-1])


def load_value_range(path: pathlib.Path) -> "ValueRange | None":
    """Returns the pixel values that become 0 and 1, for the network of a run or an export."""
    from keras_ssl.export.value_range import read_value_range
    from keras_ssl.runs.directory import Run

    run = Run(path)
    return run.value_range if run.exists else read_value_range(path)


def loading_lines(path: pathlib.Path, config: Mapping[str, Any] | None = None) -> str:
    """Returns the three lines of Python that load an export.

    Args:
        path: directory of the export.
        config: settings of the run that was exported, which say whether it is a classifier.
    """
    classifies = "class_names" in (config or {})
    network, output = ("classifier", "scores") if classifies else ("encoder", "features")
    return (
        "import keras_ssl\n"
        f"{network} = keras_ssl.export.load({str(path)!r})\n"
        f"{output} = {network}(images)  # float32 images in [0, 1], "
        "(batch, height, width, channels)"
    )
