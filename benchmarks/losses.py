"""Time and memory of the contrastive losses, compared with the full matrix of logits.

    python -m benchmarks.losses
    python -m benchmarks.losses --peer-python torch-env/bin/python
    python -m benchmarks.losses --device gpu
    python -m benchmarks.losses --smoke

Forward and backward pass are measured. Each contestant runs in a separate process. Their rounds are
interleaved, and the fastest step is shown. "whole" implements the loss as in the paper, with all
similarities in one matrix. Memory is the peak of the process minus its memory with only the embeddings.
"logits" is the size of one matrix of all similarities; implementations keep several.
"""

import pathlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from benchmarks import report
from benchmarks.subprocesses import peak_memory, read_request, run_in_subprocess

CONTESTANTS = ("whole", "keras_ssl", "keras_ssl, XLA", "lightly")


@dataclass(frozen=True)
class Settings:
    """Command-line settings."""

    images: tuple[int, ...] = (1024, 4096, 8192)
    """Batch sizes of NT-Xent, which compares twice as many embeddings."""
    queries: int = 512
    """Batch size of InfoNCE."""
    queue_size: int = 65536
    """Number of negatives of InfoNCE."""
    dim: int = 128
    temperature: float = 0.1
    device: Literal["cpu", "gpu"] = "cpu"
    steps: int = 4
    """Measured steps of a contestant in each round, after one warm-up step."""
    rounds: int = 2
    peer_python: pathlib.Path | None = None
    """Path of the Python of an environment with torch and lightly."""
    out: pathlib.Path = pathlib.Path("runs/benchmarks/losses.json")
    smoke: bool = False
    """Few embeddings, to check that everything runs."""


def main(settings: Settings):
    """Measures all contestants, prints the table and writes it as JSON."""
    if settings.smoke:
        settings = replace(settings, images=(32,), queries=8, queue_size=64, steps=1, rounds=1)
    cases = [("NT-Xent", count, 2 * count, 2 * count) for count in settings.images]
    cases.append(("InfoNCE", settings.queries, settings.queries, settings.queue_size))
    rows = []
    for loss, count, height, width in cases:
        found: dict[str, list[dict]] = {name: [] for name in CONTESTANTS}
        for _ in range(settings.rounds):
            for name, results in found.items():
                if result := measure_contestant(settings, loss, count, name):
                    results.append(result)
        best = {name: summarize(results) for name, results in found.items() if results}
        for name in CONTESTANTS:
            rows.append(row(loss, count, 4 * height * width, name, best))
    print(report.table(rows))
    report.write(settings.out, asdict(settings), rows)


def measure_contestant(settings: Settings, loss: str, count: int, contestant: str) -> dict | None:
    """Measures one contestant in a subprocess; returns `None` if it is not available."""
    request = {**asdict(settings), "loss": loss, "count": count, "contestant": contestant}
    if contestant != "lightly":
        return run_in_subprocess("benchmarks.losses", request)
    if settings.peer_python is None or loss != "NT-Xent":
        return None
    return run_in_subprocess("benchmarks.losses", request, str(settings.peer_python))


def summarize(results: list[dict]) -> dict[str, float]:
    """Returns the fastest step (seconds) and the least memory (MiB) of a contestant's rounds."""
    return {name: min(result[name] for result in results) for name in ("seconds", "memory")}


def row(loss: str, count: int, logits: int, name: str, best: dict) -> dict[str, Any]:
    """Returns a row of the table."""
    own, whole = best.get(name), best["whole"]
    values = ["", "", "", ""]
    if own is not None:
        values = [
            f"{own['seconds']:.3f}",
            f"{own['seconds'] / whole['seconds']:.2f}",
            f"{own['memory']:.0f}",
            f"{own['memory'] / whole['memory']:.3f}" if whole["memory"] else "",
        ]
    columns = ("seconds", "of whole", "memory, MiB", "of whole's")
    first = {"loss": loss, "N": count, "logits, MiB": f"{logits / 2**20:.0f}", "by": name}
    return {**first, **dict(zip(columns, values, strict=True))}


def measure(settings: dict[str, Any]) -> dict[str, float]:
    """Runs a few steps; returns the seconds of the fastest, and the added memory in MiB."""
    if settings["contestant"] == "lightly":
        step, memory = lightly_step(settings)
    else:
        step, memory = tensorflow_step(settings)
    before = memory()
    step()
    seconds = []
    for _ in range(settings["steps"]):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return {"seconds": min(seconds), "memory": (memory() - before) * 1024}


def tensorflow_step(settings: dict[str, Any]) -> tuple[Callable, Callable]:
    """Returns functions that compute value and gradient, and the peak memory in GiB."""
    import tensorflow as tf

    from keras_ssl import losses

    on_gpu = settings["device"] == "gpu"
    count, dim, temperature = settings["count"], settings["dim"], settings["temperature"]

    def noise(rows: int, seed: int) -> tf.Tensor:
        return tf.random.stateless_normal((rows, dim), (0, seed))

    def whole_nt_xent(z_1, z_2):
        z = tf.math.l2_normalize(tf.concat([z_1, z_2], 0), axis=1)
        logits = z @ tf.transpose(z) / temperature
        logits = tf.linalg.set_diag(logits, tf.fill([2 * count], logits.dtype.min))
        labels = (tf.range(2 * count) + count) % (2 * count)
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))

    def whole_info_nce(q, k, queue):
        q, k = (tf.math.l2_normalize(x, axis=1) for x in (q, k))
        logits = tf.concat([tf.reduce_sum(q * k, 1, True), q @ tf.transpose(queue)], 1)
        labels = tf.zeros(tf.shape(q)[0], tf.int32)
        return tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits / temperature)
        )

    embeddings = [noise(count, 1), noise(count, 2)]
    fixed = []
    if settings["loss"] == "NT-Xent":
        whole, own = whole_nt_xent, losses.NTXent(temperature)
    else:
        fixed = [tf.math.l2_normalize(noise(settings["queue_size"], 3), axis=1)]
        whole, own = whole_info_nce, losses.InfoNCE(temperature)
    loss = whole if settings["contestant"] == "whole" else own

    @tf.function(jit_compile=settings["contestant"].endswith("XLA"), autograph=False)
    def value_and_gradient(*embeddings):
        with tf.GradientTape() as tape:
            tape.watch(embeddings)
            value = loss(*embeddings, *fixed)
        return value, tape.gradient(value, embeddings)

    def memory() -> float:
        return (
            tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**30
            if on_gpu
            else peak_memory()
        )

    def step():
        value, gradients = value_and_gradient(*embeddings)
        return float(value), float(tf.reduce_sum(gradients[0]))  # waits for both

    return step, memory


def lightly_step(settings: dict[str, Any]) -> tuple[Callable, Callable]:
    """Returns the same for lightly's NT-Xent; needs an environment with lightly."""
    import torch
    from lightly.loss import NTXentLoss

    on_gpu = settings["device"] == "gpu"
    shape = (2, settings["count"], settings["dim"])
    z_1, z_2 = torch.randn(shape, device="cuda" if on_gpu else "cpu").unbind()
    loss = NTXentLoss(temperature=settings["temperature"])
    for z in (z_1, z_2):
        z.requires_grad_()

    def memory() -> float:
        return torch.cuda.max_memory_allocated() / 2**30 if on_gpu else peak_memory()

    def step():
        value = loss(z_1, z_2)
        gradients = torch.autograd.grad(value, [z_1, z_2])
        return value.item(), gradients[0].sum().item()

    return step, memory


if __name__ == "__main__":
    if request := read_request():
        import json

        print(json.dumps(measure(request)))
    else:
        import tyro

        main(tyro.cli(Settings))
