"""Import time of keras_ssl, compared with Keras alone, and start-up time of `keras-ssl --help`.

    python -m benchmarks.startup
    python -m benchmarks.startup --smoke

Each number is the median duration of fresh, interleaved processes. `import keras_ssl` itself imports
almost nothing; "and every package" also imports everything that its attributes load. The first round is
not counted, because it loads the files into the system's cache.
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
CASES = {  # name: the arguments of `python`, and the case to compare with
    "python": (["-c", "pass"], None),
    "import keras": (["-c", "import keras"], None),
    "import keras, keras_ssl": (["-c", "import keras, keras_ssl"], "import keras"),
    "and every package": (["-c", EVERY], "import keras"),
    "keras-ssl --help": (["-m", "keras_ssl.cli", "--help"], "python"),
    "keras-ssl pretrain --help": (["-m", "keras_ssl.cli", "pretrain", "--help"], "python"),
}


@dataclass(frozen=True)
class Settings:
    """Command-line settings."""

    rounds: int = 10
    out: pathlib.Path = pathlib.Path("runs/benchmarks/startup.json")
    smoke: bool = False
    """One process per case, to check that everything runs."""


def main(settings: Settings):
    """Measures all cases, prints the table and writes it as JSON."""
    if settings.smoke:
        settings = replace(settings, rounds=0)
    times: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(1 + settings.rounds):
        for name, (arguments, _) in CASES.items():
            times[name].append(time_process(arguments))
    rows = []
    for name, (_, base) in CASES.items():
        counted = times[name][1:] or times[name]
        median = statistics.median(counted)
        rows.append({"what": name, "seconds": median, "more than": base, "all": counted})
    medians = {row["what"]: row["seconds"] for row in rows}
    print(report.table([format_row(row, medians) for row in rows]))
    report.write(settings.out, asdict(settings), rows)


def format_row(row: dict, medians: dict[str, float]) -> dict[str, str]:
    """Returns a row of the table."""
    base = row["more than"]
    more = "" if base is None else f"{row['seconds'] - medians[base]:.3f} more than {base}"
    return {"what": row["what"], "seconds": f"{row['seconds']:.3f}", "difference": more}


def time_process(arguments: list[str]) -> float:
    """Returns the duration of a Python process."""
    root = pathlib.Path(__file__).parents[1]
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        check=True,
        cwd=root,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


if __name__ == "__main__":
    main(tyro.cli(Settings))
