"""Reports of the benchmarks: a Markdown table, and JSON with the machine and the commit."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
from typing import Any


def table(rows: list[dict[str, Any]]) -> str:
    """Returns rows with equal keys as a Markdown table. Floats must be formatted already."""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([row[name] for name in columns] for row in rows)]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def write(out: pathlib.Path, settings: dict[str, Any], rows: list[dict[str, Any]]):
    """Writes results as JSON, with the machine, the versions, the commit and the date."""
    versions = {name: _version(name) for name in ("tensorflow", "keras", "keras_ssl")}
    result = {
        "machine": machine(),
        "commit": commit(),
        "date": datetime.date.today().isoformat(),
        "versions": versions,
        "settings": settings,
        "rows": rows,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2, default=str) + "\n")
    print(f"Written: {out}")


def machine() -> str:
    """Returns the processor model and the number of cores that this process may use."""
    model = platform.processor() or platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = (line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line)
        model = next((text.strip() for name, text in lines if name.strip() == "model name"), model)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores, {platform.system()}"


def commit() -> str:
    """Returns the current commit, with "-dirty" if files differ from it; "" outside a clone."""
    root = pathlib.Path(__file__).parents[1]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude", "*"]
    completed = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    return completed.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
