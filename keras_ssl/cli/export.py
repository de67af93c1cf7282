"""The settings of `keras-ssl export`."""

import pathlib
from dataclasses import dataclass

import tyro


@dataclass(frozen=True)
class Export:
    """Write an encoder as a SavedModel that can be served and fine-tuned, for LiteRT or as ONNX."""

    run: tyro.conf.Positional[pathlib.Path]
    """Run directory; for lite and onnx also the directory of an export."""
    out: pathlib.Path | None = None
    """Directory or file to write; by default <run>/export, <run>/encoder.tflite (with --quantize
    encoder-float16.tflite or encoder-int8.tflite), <run>/encoder.onnx. What is there is replaced."""
    format: str = "savedmodel"
    """savedmodel, lite or onnx."""
    quantize: str | None = None
    """What a lite file's weights are stored in: float16 or int8, by default float32."""
    calibration: str | None = None
    """For int8: images of the kind that the network will see, as --data for pretrain; by default the
    run's own."""
    data_dir: pathlib.Path | None = None
    """Where TensorFlow Datasets keeps its data sets."""
    calibration_images: int = 128
    """How many of them are used, spread over the data."""
