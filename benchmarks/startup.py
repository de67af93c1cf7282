"""Seconds until keras_ssl is there: what it adds to importing Keras, and `keras-ssl --help`.

    python -m benchmarks.startup
    python -m benchmarks.startup --smoke

Each number is the median over fresh processes that take turns, from their start to their end. `import
keras_ssl` itself imports next to nothing; "and every package" has all that its attributes lead to.
The processes of the first round are not counted: they bring the files into the system's cache.
"""

import os
import pathlib
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace

import tyro

from benchmarks import report

EVERY = "import keras, keras_ssl; [getattr(keras_ssl, name) for name in keras_ssl.__all__]"
CASES = {  # name: the words after `python`, and what it is compared with
    "python": (["-c", "pass"], None),
    "import keras": (["-c", "import keras"], None),
    "import keras, keras_ssl": (["-c", "import keras, keras_ssl"], "import keras"),
    "and every package": (["-c", EVERY], "import keras"),
    "keras-ssl --help": (["-m", "keras_ssl.cli", "--help"], "python"),
    "keras-ssl pretrain --help": (["-m", "keras_ssl.cli", "pretrain", "--help"], "python"),
}


@dataclass(frozen=True)
class Settings:
    """What can be set on the command line."""

    rounds: int = 10
    out: pathlib.Path = pathlib.Path("runs/benchmarks/startup.json")
    smoke: bool = False
    """One process of each, to see that everything runs."""


def main(settings: Settings):
    """Measures all cases, prints the table and writes it as JSON."""
    if settings.smoke:
        settings = replace(settings, rounds=0)
    times: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(1 + settings.rounds):
        for name, (words, _) in CASES.items():
            times[name].append(seconds(words))
    rows = []
    for name, (_, base) in CASES.items():
        counted = times[name][1:] or times[name]
        median = statistics.median(counted)
        rows.append({"what": name, "seconds": median, "more than": base, "all": counted})
    medians = {row["what"]: row["seconds"] for row in rows}
    print(report.table([shown(row, medians) for row in rows]))
    report.write(settings.out, asdict(settings), rows)


def shown(row: dict, medians: dict[str, float]) -> dict[str, str]:
    """Returns a line of the table."""
    base = row["more than"]
    more = "" if base is None else f"{row['seconds'] - medians[base]:.3f} more than {base}"
    return {"what": row["what"], "seconds": f"{row['seconds']:.3f}", "difference": more}


def seconds(words: list[str]) -> float:
    """Returns how long a Python process takes."""
    root = pathlib.Path(__file__).parents[1]
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, *words],
        check=True,
        cwd=root,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - began


if __name__ == "__main__":
    main(tyro.cli(Settings))
