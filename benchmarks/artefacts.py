"""Size, latency and accuracy of a teacher and a student in every format of `keras_ssl.export`.

    python -m benchmarks.artefacts
    python -m benchmarks.artefacts --networks resnet18 --formats savedmodel lite-int8
    python -m benchmarks.artefacts --smoke

Each file is exported and run in a separate process, with all cores, by its own runtime: TensorFlow,
LiteRT's interpreter or onnxruntime. Times are the median of the calls in the fastest round. Weights are
untrained. Blurred noise provides the moving statistics and calibrates int8. "cosine" is the smallest
cosine similarity between an image's features in this format and in Keras. Formats whose runtime is not
installed are skipped: pip install "keras_ssl[lite,onnx]".
"""

import importlib.util
import json
import os
import pathlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks import report
from benchmarks.subprocesses import read_request, run_in_subprocess

RUNTIMES = {
    "savedmodel": "tensorflow",
    "lite": "ai_edge_litert",
    "lite-float16": "ai_edge_litert",
    "lite-int8": "ai_edge_litert",
    "onnx": "tf2onnx",
}


@dataclass(frozen=True)
class Settings:
    """Command-line settings."""

    networks: tuple[str, ...] = ("resnet18", "small-resnet")
    """Teacher and student, named as in `keras-ssl pretrain --backbone`."""
    formats: tuple[str, ...] = tuple(RUNTIMES)
    side: int = 32
    batch_size: int = 32
    """Batch size for images per second. Single images are measured as well."""
    seconds: float = 1.0
    """Duration of each measurement."""
    rounds: int = 2
    out: pathlib.Path = pathlib.Path("runs/benchmarks/artefacts.json")
    smoke: bool = False
    """A tiny network, to check that everything runs."""


def main(settings: Settings):
    """Measures every network in every format, prints the table and writes it as JSON."""
    if settings.smoke:
        settings = replace(settings, networks=("tiny",), formats=("savedmodel",), side=8)
        settings = replace(settings, seconds=0.05, rounds=1)
    rows = []
    for network in settings.networks:
        for form in settings.formats:
            if importlib.util.find_spec(RUNTIMES[form]) is None:
                print(f"Skipped {form}: {RUNTIMES[form]} is not installed")
                continue
            case = {"network": network, "format": form}
            rows.append(
                {**case, **run_in_subprocess("benchmarks.artefacts", asdict(settings) | case)}
            )
    print(report.table([format_row(row) for row in rows]))
    report.write(settings.out, asdict(settings), rows)


def format_row(row: dict[str, Any]) -> dict[str, Any]:
    """Returns a row of the table."""
    return {
        "network": row["network"],
        "parameters": f"{row['parameters']:,}",
        "format": row["format"],
        "MiB": f"{row['bytes'] / 2**20:.2f}",
        "one image, ms": f"{1000 * row['one']:.2f}",
        "images per second": f"{row['per_second']:,.0f}",
        "cosine": f"{row['cosine']:.6f}",
    }


def measure(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns size, seconds and cosine of one network in one format."""
    import numpy as np

    from keras_ssl.presets import build_backbone

    side, batch_size = settings["side"], settings["batch_size"]
    backbone = build_backbone(settings["network"], 1.0, (side, side, 3))
    for seed in range(4):
        backbone(blurred_noise(64, side, seed), training=True)
    images = blurred_noise(batch_size, side, 9)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "network")
        run = export_network(settings["format"], backbone, path, blurred_noise(128, side, 8))
        files = [path] if path.is_file() else [path / "saved_model.pb", *path.glob("variables/*")]
        expected, received = np.asarray(backbone(images)), np.asarray(run(images))
        lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(received, axis=1)
        result = {
            "parameters": backbone.count_params(),
            "bytes": sum(file.stat().st_size for file in files),
            "cosine": float(np.min(np.sum(expected * received, axis=1) / lengths)),
            "one": time_call(lambda: run(images[:1]), settings),
            "batch": time_call(lambda: run(images), settings),
        }
    return {**result, "per_second": batch_size / result["batch"]}


def export_network(form: str, backbone: Any, path: pathlib.Path, calibration: Any) -> Callable:
    """Exports a file, and returns a function that runs it on images and returns features."""
    from keras_ssl import export

    if form == "savedmodel":
        import tensorflow as tf

        export.saved_model(backbone, path)
        signature = tf.saved_model.load(str(path)).signatures["serving_default"]
        return lambda images: signature(images=tf.constant(images))["features"].numpy()
    if form == "onnx":
        import onnxruntime

        export.onnx(backbone, path)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return lambda images: session.run(["features"], {"images": images})[0]
    from ai_edge_litert.interpreter import Interpreter

    _, _, quantize = form.partition("-")
    export.lite(backbone, path, quantize or None, calibration)
    runner = Interpreter(str(path), num_threads=os.cpu_count()).get_signature_runner()
    return lambda images: runner(images=images)["features"]


def time_call(call: Callable, settings: dict[str, Any]) -> float:
    """Returns the median seconds of a call, in the fastest round."""
    medians = []
    for _ in range(settings["rounds"]):
        call()  # some runtimes prepare again for a new batch size
        end = time.perf_counter() + settings["seconds"]
        calls = []
        while time.perf_counter() < end or not calls:
            start = time.perf_counter()
            call()
            calls.append(time.perf_counter() - start)
        medians.append(sorted(calls)[len(calls) // 2])
    return min(medians)


def blurred_noise(count: int, side: int, seed: int) -> Any:
    """Returns float32 images in [0, 1] that are as smooth as photographs."""
    import numpy as np
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).normal(size=(count, side, side, 3))
    smooth = gaussian_filter(noise, (0, side / 16, side / 16, 0.5))
    return np.clip(0.5 + 0.25 * smooth / smooth.std(), 0, 1).astype("float32")


if __name__ == "__main__":
    if (request := read_request()) is not None:
        print(json.dumps(measure(request)))
    else:
        import tyro

        main(tyro.cli(Settings))
