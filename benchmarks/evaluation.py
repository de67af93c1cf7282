"""Seconds, memory and accuracy of kNN and of the linear classifier, beside scikit-learn's.

    python -m benchmarks.evaluation
    python -m benchmarks.evaluation --protocols knn --device gpu
    python -m benchmarks.evaluation --smoke

Everyone gets the same features, in a process of its own, and they take turns, round after round; the
table shows the fastest. Memory is the most that the process held, and how much of it came after its
libraries were loaded: the features that go in and all that is made of them.

Features: "clustered", ten clusters in each class along directions of very different strength, as
networks give; "normal", noise that lies a little apart for each class. The lower bound of kNN is one
matrix product and `tf.math.top_k` for a block of test images after the other, without a vote.
"""

import json
import pathlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from benchmarks import report
from benchmarks.apart import asked, measured_apart, peak

PROTOCOLS = {
    "knn": ("keras_ssl", "scikit-learn", "lower bound"),
    "linear": ("keras_ssl", "scikit-learn"),
}
CLUSTERS = 10  # in each class
TEMPERATURE = 0.1


@dataclass(frozen=True)
class Settings:
    """What can be set on the command line."""

    train: int = 50_000
    test: int = 10_000
    dim: int = 512
    classes: int = 10
    k: int = 200
    protocols: tuple[Literal["knn", "linear"], ...] = ("knn", "linear")
    features: tuple[Literal["clustered", "normal"], ...] = ("clustered", "normal")
    rounds: int = 2
    device: Literal["cpu", "gpu"] = "cpu"
    """Of TensorFlow; scikit-learn runs on the CPU."""
    out: pathlib.Path = pathlib.Path("runs/benchmarks/evaluation.json")
    smoke: bool = False
    """Few features, to see that everything runs."""


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
            results.append(measured_apart("benchmarks.evaluation", {**asdict(settings), **case}))
    rows = [
        {**case, **min(results, key=lambda result: result["seconds"]), "rounds": results}
        for case, results in zip(cases, found, strict=True)
    ]
    print(report.table([shown(row, rows) for row in rows]))
    report.write(settings.out, asdict(settings), rows)


def shown(row: dict[str, Any], rows: list[dict]) -> dict[str, Any]:
    """Returns a line of the table; the ratio is of the time, to that of keras_ssl."""
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


def measured(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns seconds, GiB, accuracy and iterations of one contestant."""
    load = {
        ("knn", "keras_ssl"): knn,
        ("knn", "scikit-learn"): sklearn_knn,
        ("knn", "lower bound"): bare_neighbours,
        ("linear", "keras_ssl"): linear,
        ("linear", "scikit-learn"): sklearn_linear,
    }[settings["protocol"], settings["contestant"]]
    run = load(settings)  # the libraries are there now
    start = peak()
    train, test = made(settings)
    began = time.perf_counter()
    accuracy, iterations = run(train, test)
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "accuracy": accuracy,
        "iterations": iterations,
        "peak": peak(),
        "grown": peak() - start,
    }


Outcome = tuple[float | None, int | None]  # accuracy, iterations
Contestant = Callable[[tuple, tuple], Outcome]  # of (values, labels) of train and test


def on_device(settings: dict[str, Any]):
    """Starts TensorFlow on the device that is measured."""
    import tensorflow as tf

    if settings["device"] == "cpu":
        tf.config.set_visible_devices([], "GPU")
    elif not tf.config.list_physical_devices("GPU"):
        raise SystemExit("There is no GPU here. Received: --device gpu")
    float(tf.reduce_sum(tf.matmul(tf.zeros((256, 256)), tf.zeros((256, 256)))))
    return tf


def knn(settings: dict[str, Any]) -> Contestant:
    on_device(settings)
    from keras_ssl import evaluate

    def run(train, test):
        sets = (evaluate.Features(*train), evaluate.Features(*test))
        return evaluate.knn(None, *sets, settings["k"], TEMPERATURE).accuracy, None

    return run


def linear(settings: dict[str, Any]) -> Contestant:
    on_device(settings)
    from keras_ssl import evaluate

    def run(train, test):
        result = evaluate.linear(None, evaluate.Features(*train), evaluate.Features(*test))
        return result.accuracy, result.settings.get("iterations")

    return run


def bare_neighbours(settings: dict[str, Any]) -> Contestant:
    tf = on_device(settings)

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


def made(settings: dict[str, Any]) -> list[tuple]:
    """Returns (values, labels) of train and test; in blocks, so that nothing else is held."""
    import numpy as np

    dim, classes = settings["dim"], settings["classes"]
    rng = np.random.default_rng(0)
    if settings["features"] == "clustered":
        clusters, apart, strength = CLUSTERS * classes, 0.35, np.geomspace(1, 0.01, dim)
        rotation = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
        directions = (strength[:, None] * rotation).astype(np.float32)
    else:
        clusters, apart, directions = classes, 0.08, np.eye(dim, dtype=np.float32)
    centres = (apart * rng.normal(size=(clusters, dim))).astype(np.float32)
    sets = []
    for count in (settings["train"], settings["test"]):
        values, cluster = np.empty((count, dim), np.float32), rng.integers(0, clusters, count)
        for start in range(0, count, 2000):
            own = centres[cluster[start : start + 2000]]
            own += rng.standard_normal(own.shape, np.float32)
            values[start : start + 2000] = own @ directions
        sets.append((values, cluster % classes))
    return sets


if __name__ == "__main__":
    if (given := asked()) is not None:
        print(json.dumps(measured(given)))
    else:
        import tyro

        main(tyro.cli(Settings))
