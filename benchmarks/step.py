"""Speed of a full training step, compared with its lower bound and with lightly.

    python -m benchmarks.step
    python -m benchmarks.step --method byol --precision bfloat16 --peer-python torch-env/bin/python
    python -m benchmarks.step --device gpu --image-size 224 --depth 50 --batch-size 256
    python -m benchmarks.step --smoke

Each contestant trains in a separate process. Their rounds are interleaved, and the table shows the
median of all steps. Every step gets the same noise images, so that only the step is measured; the row
"fit, data.views" also reads and augments images. `fit` has the callbacks of `keras_ssl.runs.train`:
progress, collapse monitor, momentum, TensorBoard, history and checkpoints. Their work at the end of an
epoch is shown in a separate column.

The cells of a library that is not available stay blank.
"""

import itertools
import json
import pathlib
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from benchmarks import report
from benchmarks.subprocesses import peak_memory, read_request, run_in_subprocess

BARE = "bare"
OURS = ("fit", "fit, data.views")
PEERS = ("lightly, eager", "lightly, compiled")


@dataclass(frozen=True)
class Settings:
    """Command-line settings."""

    method: Literal["simclr", "moco", "byol"] = "simclr"
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 means Keras' mixed_bfloat16, and torch's autocast."""
    device: Literal["cpu", "gpu"] = "cpu"
    depth: int = 18
    """Depth of the ResNet: 18, 34 or 50; 0 for Tiny, which has no lower bound."""
    image_size: int = 32
    batch_size: int = 128
    """Images per step, each with two views."""
    queue_size: int = 4096
    """Queue size of MoCo."""
    steps: int = 4
    """Measured steps of a contestant in each round, after as many warm-up steps."""
    rounds: int = 2
    contestants: tuple[str, ...] = (BARE, *OURS, *PEERS)
    peer_python: pathlib.Path | None = None
    """Path of the Python of an environment with torch, torchvision and lightly."""
    out: pathlib.Path = pathlib.Path("runs/benchmarks/step.json")
    smoke: bool = False
    """A tiny model and few images, to check that everything runs."""


def main(settings: Settings):
    """Measures all contestants, prints the table and writes it as JSON."""
    if settings.smoke:
        settings = replace(settings, depth=0, image_size=8, batch_size=16, steps=2, rounds=1)
    found: dict[str, list[dict]] = {name: [] for name in settings.contestants}
    for _ in range(settings.rounds):
        for name in settings.contestants:
            if result := measure_contestant(settings, name):
                found[name].append(result)
    rows = [row(settings, name, results, found) for name, results in found.items()]
    print(report.table(rows))
    report.write(settings.out, asdict(settings), [{**r, "rounds": found[r["step"]]} for r in rows])


def measure_contestant(settings: Settings, contestant: str) -> dict | None:
    """Measures one contestant in a subprocess; returns `None` if it is not available."""
    request = {**asdict(settings), "contestant": contestant, "warm_up": settings.steps}
    if contestant in PEERS:
        if settings.peer_python is None or not settings.depth:
            return None
        return run_in_subprocess("benchmarks.step_lightly", request, str(settings.peer_python))
    if contestant == BARE and (settings.method != "simclr" or not settings.depth):
        return None
    return run_in_subprocess("benchmarks.step", request, environment={"TF_CPP_MIN_LOG_LEVEL": "2"})


def row(settings: Settings, name: str, results: list[dict], found: dict[str, list[dict]]) -> dict:
    """Returns a contestant's row of the table."""

    def speed(contestant: str) -> float | None:
        seconds = [s for result in found.get(contestant, []) for s in result["seconds"]]
        return settings.batch_size / statistics.median(seconds) if seconds else None

    def ratio(of: str) -> str:
        own, other = speed(name), speed(of)
        return f"{own / other:.2f}" if own and other else ""

    ends = [result["epoch_end"] for result in results if "epoch_end" in result]
    return {
        "step": name,
        "images/s": f"{speed(name):.1f}" if results else "",
        "of bare": ratio(BARE),
        "of lightly, compiled": ratio(PEERS[1]),
        "end of an epoch, s": f"{statistics.median(ends):.2f}" if ends else "",
        "memory, GiB": f"{max(result['peak'] for result in results):.2f}" if results else "",
    }


def measure(settings: dict[str, Any]) -> dict[str, Any]:
    """Trains for a few steps; returns the seconds of each, and the peak memory in GiB."""
    import keras
    import tensorflow as tf

    if settings["device"] == "cpu":
        tf.config.set_visible_devices([], "GPU")
    elif not tf.config.list_physical_devices("GPU"):
        raise ValueError("`device` must be available. Received: device='gpu', but no GPU was found")
    keras.utils.set_random_seed(0)
    train = _train_bare if settings["contestant"] == BARE else _train_with_fit
    return {**train(settings), "peak": _peak(settings["device"])}


def _train_bare(settings: dict[str, Any]) -> dict[str, Any]:
    from benchmarks.step_bare import simclr_step

    on_gpu = settings["device"] == "gpu"
    step = simclr_step(settings["depth"], settings["image_size"], settings["precision"], on_gpu)
    views = _noise(settings)
    seconds = []
    for _ in range(settings["warm_up"] + settings["steps"]):
        start = time.perf_counter()
        float(step(*views))
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds[settings["warm_up"] :]}


def _train_with_fit(settings: dict[str, Any]) -> dict[str, Any]:
    import keras
    import tensorflow as tf

    from keras_ssl import augment, data
    from keras_ssl.callbacks import Checkpoint
    from keras_ssl.runs import Run
    from keras_ssl.runs.training import _fit as fit_with_all_callbacks

    if settings["precision"] == "bfloat16":
        keras.config.set_dtype_policy("mixed_bfloat16")
    network, steps = model(settings), settings["steps"]
    side, count = settings["image_size"], settings["batch_size"]
    if settings["contestant"] == "fit":
        batches = tf.data.Dataset.from_tensors(_noise(settings)).repeat(steps)
    else:
        shape = (steps * count, side, side, 3)
        pixels = tf.random.stateless_uniform(shape, (0, 0), 0, 256, tf.int32)
        source = data.arrays(tf.cast(pixels, tf.uint8).numpy())
        batches = data.views(source, augment.simclr(side), count, seed=0)

    class Clock(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.ends, self.ended = [], 0.0

        def on_train_batch_end(self, batch, logs=None):
            self.ends.append(time.perf_counter())

        def on_train_end(self, logs=None):
            self.ended = time.perf_counter()

    with tempfile.TemporaryDirectory() as directory:
        run = Run.create(directory, {})
        checkpoint = Checkpoint(run.checkpoints, steps, interval=30.0)
        clock = Clock()
        # The first epoch traces the graph and is not measured.
        fit_with_all_callbacks(network, batches, run, checkpoint, epochs=2, callbacks=[clock])
    ends = clock.ends[-steps:]
    seconds = [b - a for a, b in itertools.pairwise(ends)]
    return {"seconds": seconds, "epoch_end": clock.ended - ends[-1]}


def model(settings: dict[str, Any]):
    """Returns a compiled method with a contestant's settings."""
    from keras_ssl import backbones, layers, methods, optimizers

    shape = (settings["image_size"], settings["image_size"], 3)
    small = settings["depth"] == 0
    backbone = (
        backbones.Tiny(shape, features=16)
        if small
        else backbones.ResNet(settings["depth"], input_shape=shape)
    )
    if settings["method"] == "simclr":
        method: Any = methods.SimCLR(backbone, temperature=0.5)
    elif settings["method"] == "moco":
        method = methods.MoCo(backbone, queue_size=settings["queue_size"])
    else:
        hidden = 32 if small else 4096
        heads = [
            layers.MLPHead(256, hidden, batch_norm=True, name=name)
            for name in ("projector", "predictor")
        ]
        method = methods.BYOL(backbone, *heads)
    method.compile(optimizers.SGD(0.06, weight_decay=5e-4))
    return method


def _noise(settings: dict[str, Any]) -> tuple:
    import tensorflow as tf

    side = settings["image_size"]
    views = tf.random.stateless_uniform((2, settings["batch_size"], side, side, 3), seed=(0, 0))
    return views[0], views[1]


def _peak(device: str) -> float:
    import tensorflow as tf

    if device == "cpu":
        return peak_memory()
    return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**30


if __name__ == "__main__":
    if (request := read_request()) is not None:
        print(json.dumps(measure(request)))
    else:
        import tyro

        main(tyro.cli(Settings))
