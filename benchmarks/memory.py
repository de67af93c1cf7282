"""The estimated memory of training against the measured one: the table of docs/performance.md.

    python -m benchmarks.memory
    python -m benchmarks.memory --smoke

Each network is measured in a separate process, with three steps on noise images. Memory is what the
process grows by, from the estimate to its peak.
"""

import json
import os
import pathlib
from dataclasses import asdict, dataclass, replace
from typing import Any

import tyro

from benchmarks import report
from benchmarks.subprocesses import peak_memory, read_request, run_in_subprocess

CASES: tuple[dict[str, Any], ...] = (
    {"backbone": "small-resnet", "image_size": 32, "batch_size": 256},
    {"backbone": "resnet18", "image_size": 32, "batch_size": 128},
    {"backbone": "resnet18", "image_size": 32, "batch_size": 128, "chunks": 4},
    {"backbone": "resnet18", "image_size": 32, "batch_size": 64, "method": "byol"},
    {"backbone": "resnet50", "image_size": 32, "batch_size": 64},
    {"backbone": "MobileNetV2", "image_size": 64, "batch_size": 64},
    {"backbone": "EfficientNetB0", "image_size": 64, "batch_size": 64},
)
SMOKE = ({"backbone": "tiny", "image_size": 8, "batch_size": 16},)


@dataclass(frozen=True)
class Settings:
    """Command-line settings."""

    steps: int = 3
    out: pathlib.Path = pathlib.Path("runs/benchmarks/memory.json")
    smoke: bool = False
    """A tiny network and few images, to check that everything runs."""


def main(settings: Settings):
    """Measures each network, prints the table and writes it as JSON."""
    if settings.smoke:
        settings = replace(settings, steps=1)
    rows = [
        run_in_subprocess("benchmarks.memory", {**case, "steps": settings.steps})
        for case in (SMOKE if settings.smoke else CASES)
    ]
    print(report.table([format_row(row) for row in rows]))
    report.write(settings.out, asdict(settings), rows)


def format_row(row: dict) -> dict:
    """Returns a row of the table."""
    return {
        "network": row["backbone"],
        "method": row.get("method", "simclr"),
        "pixels": row["image_size"],
        "batch": row["batch_size"],
        "chunks": row.get("chunks", 1),
        "estimated, GiB": f"{row['estimated']:.2f}",
        "measured, GiB": f"{row['measured']:.2f}",
        "ratio": f"{row['estimated'] / row['measured']:.2f}",
    }


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Estimates, then trains for a few steps; returns the case with both numbers in GiB."""
    import tensorflow as tf

    from keras_ssl.presets import ImageFacts, find_preset
    from keras_ssl.runs import memory

    case = {name: value for name, value in request.items() if name != "steps"}
    options = {name: value for name, value in case.items() if name != "method"}
    facts = ImageFacts(3, 1000)
    preset = find_preset(case.get("method", "simclr"))(**options).resolve(facts)
    model = preset.build_model(preset.build_backbone(facts), facts)
    model.compile(preset.build_optimizer(10), chunks=preset.chunks)
    memory._SMALL = 0.0  # an estimate also for small networks, which are only bounded otherwise
    needed = memory.estimate(preset, model)
    size = case["image_size"]
    views = tf.random.uniform((2, case["batch_size"], size, size, 3))
    before = _resident()
    model.fit(
        tf.data.Dataset.from_tensors((views[0], views[1])).repeat(request["steps"]), verbose=0
    )
    estimated = needed.needed / 2**30 if needed else 0.0
    return {**case, "estimated": estimated, "measured": peak_memory() - before}


def _resident() -> float:
    """Returns the memory of this process now, in GiB."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**30


if __name__ == "__main__":
    if (request := read_request()) is not None:
        print(json.dumps(measure(request)))
    else:
        main(tyro.cli(Settings))
