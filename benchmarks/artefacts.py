"""Size, latency and faithfulness of a teacher and a student in every format of `keras_ssl.export`.

    python -m benchmarks.artefacts
    python -m benchmarks.artefacts --networks resnet18 --formats savedmodel lite-int8
    python -m benchmarks.artefacts --smoke

Each file is made and run in a process of its own, with all cores, by its own runtime: TensorFlow,
LiteRT's interpreter, onnxruntime. Seconds are the median of the calls of a round, and the fastest
round is shown. Weights are untrained, with moving statistics of blurred noise, which is also what
calibrates int8; the cosine is the smallest between an image's features here and in Keras. Formats
whose runtime is not installed are left out: pip install "keras_ssl[lite,onnx]".
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
from benchmarks.apart import asked, measured_apart

NEEDED = {
    "savedmodel": "tensorflow",
    "lite": "ai_edge_litert",
    "lite-float16": "ai_edge_litert",
    "lite-int8": "ai_edge_litert",
    "onnx": "tf2onnx",
}


@dataclass(frozen=True)
class Settings:
    """What can be set on the command line."""

    networks: tuple[str, ...] = ("resnet18", "small-resnet")
    """Teacher and student, as --backbone for pretrain."""
    formats: tuple[str, ...] = tuple(NEEDED)
    side: int = 32
    batch_size: int = 32
    """Of the batch whose images per second are measured, beside single images."""
    seconds: float = 1.0
    """That each measurement calls the network."""
    rounds: int = 2
    out: pathlib.Path = pathlib.Path("runs/benchmarks/artefacts.json")
    smoke: bool = False
    """A tiny network, to see that everything runs."""


def main(settings: Settings):
    """Measures every network in every format, prints the table and writes it as JSON."""
    if settings.smoke:
        settings = replace(settings, networks=("tiny",), formats=("savedmodel",), side=8)
        settings = replace(settings, seconds=0.05, rounds=1)
    rows = []
    for network in settings.networks:
        for form in settings.formats:
            if importlib.util.find_spec(NEEDED[form]) is None:
                print(f"Left out: {form}, for want of {NEEDED[form]}")
                continue
            case = {"network": network, "format": form}
            rows.append({**case, **measured_apart("benchmarks.artefacts", asdict(settings) | case)})
    print(report.table([shown(row) for row in rows]))
    report.write(settings.out, asdict(settings), rows)


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """Returns a line of the table."""
    return {
        "network": row["network"],
        "parameters": f"{row['parameters']:,}",
        "format": row["format"],
        "MiB": f"{row['bytes'] / 2**20:.2f}",
        "one image, ms": f"{1000 * row['one']:.2f}",
        "images per second": f"{row['per_second']:,.0f}",
        "cosine": f"{row['cosine']:.6f}",
    }


def measured(settings: dict[str, Any]) -> dict[str, Any]:
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
        run = made(settings["format"], backbone, path, blurred_noise(128, side, 8))
        files = [path] if path.is_file() else [path / "saved_model.pb", *path.glob("variables/*")]
        expected, received = np.asarray(backbone(images)), np.asarray(run(images))
        lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(received, axis=1)
        found = {
            "parameters": backbone.count_params(),
            "bytes": sum(file.stat().st_size for file in files),
            "cosine": float(np.min(np.sum(expected * received, axis=1) / lengths)),
            "one": timed(lambda: run(images[:1]), settings),
            "batch": timed(lambda: run(images), settings),
        }
    return {**found, "per_second": batch_size / found["batch"]}


def made(form: str, backbone: Any, path: pathlib.Path, calibration: Any) -> Callable:
    """Writes a file and returns a function that runs it, from images to features."""
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


def timed(call: Callable, settings: dict[str, Any]) -> float:
    """Returns the median seconds of a call, in the fastest round."""
    medians = []
    for _ in range(settings["rounds"]):
        call()  # of another batch size, some runtimes plan anew
        ends = time.perf_counter() + settings["seconds"]
        calls = []
        while time.perf_counter() < ends or not calls:
            began = time.perf_counter()
            call()
            calls.append(time.perf_counter() - began)
        medians.append(sorted(calls)[len(calls) // 2])
    return min(medians)


def blurred_noise(count: int, side: int, seed: int) -> Any:
    """Returns float32 images in [0, 1] with the smoothness that photographs have."""
    import numpy as np
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).normal(size=(count, side, side, 3))
    smooth = gaussian_filter(noise, (0, side / 16, side / 16, 0.5))
    return np.clip(0.5 + 0.25 * smooth / smooth.std(), 0, 1).astype("float32")


if __name__ == "__main__":
    if (given := asked()) is not None:
        print(json.dumps(measured(given)))
    else:
        import tyro

        main(tyro.cli(Settings))
