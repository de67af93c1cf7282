"""Time, memory and accuracy of kNN and of the linear classifier, compared with scikit-learn.

    python -m benchmarks.evaluation
    python -m benchmarks.evaluation --protocols knn --device gpu
    python -m benchmarks.evaluation --smoke

Each contestant gets the same features in a separate process. Their rounds are interleaved, and the
table shows the fastest. Memory is the peak of the process, and the part of it that was added after the
libraries were loaded, which includes the features.

"clustered" features have ten clusters per class along directions of very different variance, like those
of networks. "normal" features are noise with a slightly different mean for each class. The lower bound
of kNN is one matrix product and `tf.math.top_k` for each block of test images, without voting.
"""

import json
import pathlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from benchmarks import report
from benchmarks.subprocesses import peak_memory, read_request, run_in_subprocess

PROTOCOLS = {
    "knn": ("keras_ssl", "scikit-learn", "lower bound"),
    "linear": ("keras_ssl", "scikit-learn"),
}
CLUSTERS = 10  # per class
TEMPERATURE = 0.1


@dataclass(frozen=True)
class Settings:
    """Command-line settings."""

    train: int = 50_000
    test: int = 10_000
    dim: int = 512
    classes: int = 10
    k: int = 200
    protocols: tuple[Literal["knn", "linear"], ...] = ("knn", "linear")
    features: tuple[Literal["clustered", "normal"], ...] = ("clustered", "normal")
    rounds: int = 2
    device: Literal["cpu", "gpu"] = "cpu"
    """Device for TensorFlow. scikit-learn runs on the CPU."""
    out: pathlib.Path = pathlib.Path("runs/benchmarks/evaluation.json")
    smoke: bool = False
    """Few features, to check that everything runs."""


def main(settings: Settings):
    """Measures every contestant, prints the table and writes it as JSON."""
    if settings.smoke:
        settings = replace(settings, train=400, test=100, dim=16, k=20, rounds=1)
        settings = replace(settings, features=("clustered",))
    cases = [
        {"features": features, "protocol": protocol, "contestant": contestant}
        for features in settings.features
        for protocol in settings.protocols
        for contestant in PROTOCOLS[protocol]
    ]
    found: list[list[dict]] = [[] for _ in cases]
    for _ in range(settings.rounds):
        for case, results in zip(cases, found, strict=True):
            results.append(run_in_subprocess("benchmarks.evaluation", {**asdict(settings), **case}))
    rows = [
        {**case, **min(results, key=lambda result: result["seconds"]), "rounds": results}
        for case, results in zip(cases, found, strict=True)
    ]
    print(report.table([format_row(row, rows) for row in rows]))
    report.write(settings.out, asdict(settings), rows)


def format_row(row: dict[str, Any], rows: list[dict]) -> dict[str, Any]:
    """Returns a row of the table. "times ours" is the ratio to the time of keras_ssl."""
    (ours,) = [
        each["seconds"]
        for each in rows
        if each["contestant"] == "keras_ssl"
        and all(each[name] == row[name] for name in ("features", "protocol"))
    ]
    accuracy = row["accuracy"]
    return {
        "features": row["features"],
        "protocol": row["protocol"],
        "": row["contestant"],
        "seconds": f"{row['seconds']:.2f}",
        "times ours": f"{row['seconds'] / ours:.2f}",
        "accuracy, %": "" if accuracy is None else f"{100 * accuracy:.2f}",
        "iterations": row["iterations"] or "",
        "peak, GiB": f"{row['peak']:.2f}",
        "after the start, GiB": f"{row['grown']:.2f}",
    }


def measure(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns seconds, GiB, accuracy and iterations of one contestant."""
    load = {
        ("knn", "keras_ssl"): knn,
        ("knn", "scikit-learn"): sklearn_knn,
        ("knn", "lower bound"): bare_neighbours,
        ("linear", "keras_ssl"): linear,
        ("linear", "scikit-learn"): sklearn_linear,
    }[settings["protocol"], settings["contestant"]]
    run = load(settings)  # loads the libraries
    memory = peak_memory()
    train, test = make_features(settings)
    start = time.perf_counter()
    accuracy, iterations = run(train, test)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "accuracy": accuracy,
        "iterations": iterations,
        "peak": peak_memory(),
        "grown": peak_memory() - memory,
    }


Outcome = tuple[float | None, int | None]  # accuracy, iterations
Contestant = Callable[[tuple, tuple], Outcome]  # of (values, labels) of train and test


def start_device(settings: dict[str, Any]):
    """Initializes TensorFlow on the device to measure."""
    import tensorflow as tf

    if settings["device"] == "cpu":
        tf.config.set_visible_devices([], "GPU")
    elif not tf.config.list_physical_devices("GPU"):
        raise SystemExit("No GPU was found. Received: --device gpu")
    float(tf.reduce_sum(tf.matmul(tf.zeros((256, 256)), tf.zeros((256, 256)))))
    return tf


def knn(settings: dict[str, Any]) -> Contestant:
    start_device(settings)
    from keras_ssl import evaluate

    def run(train, test):
        sets = (evaluate.Features(*train), evaluate.Features(*test))
        return evaluate.knn(None, *sets, settings["k"], TEMPERATURE).accuracy, None

    return run


def linear(settings: dict[str, Any]) -> Contestant:
    start_device(settings)
    from keras_ssl import evaluate

    def run(train, test):
        result = evaluate.linear(None, evaluate.Features(*train), evaluate.Features(*test))
        return result.accuracy, result.settings.get("iterations")

    return run


def bare_neighbours(settings: dict[str, Any]) -> Contestant:
    tf = start_device(settings)

    def run(train, test):
        bank, queries = (tf.math.l2_normalize(values, axis=1) for values, _ in (train, test))
        for start in range(0, len(queries), 512):
            similarity = tf.matmul(queries[start : start + 512], bank, transpose_b=True)
            tf.math.top_k(similarity, settings["k"])[1].numpy()
        return None, None

    return run


def sklearn_knn(settings: dict[str, Any]) -> Contestant:
    import numpy as np
    from sklearn.neighbors import KNeighborsClassifier

    def run(train, test):
        model = KNeighborsClassifier(
            settings["k"],
            weights=lambda distances: np.exp((1 - distances) / TEMPERATURE),
            algorithm="brute",
            metric="cosine",
        )
        return model.fit(*train).score(*test), None

    return run


def sklearn_linear(settings: dict[str, Any]) -> Contestant:
    from sklearn.linear_model import LogisticRegression

    def run(train, test):
        mean, std = train[0].mean(axis=0), train[0].std(axis=0)
        model = LogisticRegression(C=0.1, max_iter=1000)  # `evaluate.linear`'s penalty
        model.fit((train[0] - mean) / std, train[1])
        return model.score((test[0] - mean) / std, test[1]), int(model.n_iter_.max())

    return run


def make_features(settings: dict[str, Any]) -> list[tuple]:
    """Returns (values, labels) of train and test, made in blocks to save memory."""
    import numpy as np

    dim, classes = settings["dim"], settings["classes"]
    rng = np.random.default_rng(0)
    if settings["features"] == "clustered":
        clusters, distance, strength = CLUSTERS * classes, 0.35, np.geomspace(1, 0.01, dim)
        rotation = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
        directions = (strength[:, None] * rotation).astype(np.float32)
    else:
        clusters, distance, directions = classes, 0.08, np.eye(dim, dtype=np.float32)
    centres = (distance * rng.normal(size=(clusters, dim))).astype(np.float32)
    sets = []
    for count in (settings["train"], settings["test"]):
        values, cluster = np.empty((count, dim), np.float32), rng.integers(0, clusters, count)
        for start in range(0, count, 2000):
            block = centres[cluster[start : start + 2000]]
            block += rng.standard_normal(block.shape, np.float32)
            values[start : start + 2000] = block @ directions
        sets.append((values, cluster % classes))
    return sets


if __name__ == "__main__":
    if (request := read_request()) is not None:
        print(json.dumps(measure(request)))
    else:
        import tyro

        main(tyro.cli(Settings))
