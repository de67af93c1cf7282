"""Every script of benchmarks/ runs, prints a table and writes JSON; unit tests of their helpers."""

import dataclasses
import datetime
import importlib
import json
import os
import pathlib
import subprocess
import sys

import pytest

from benchmarks import report, subprocesses

ROOT = pathlib.Path(__file__).parents[1]
SCRIPTS = sorted(
    path.stem for path in (ROOT / "benchmarks").glob("*.py") if "smoke: bool" in path.read_text()
)
ROWS = [{"name": "a", "seconds": "1.0"}, {"name": "b", "seconds": ""}]
# The workers use the existing loopback interface: tests do not create a network namespace.
ENVIRONMENT = {**os.environ, "BENCHMARK_HAS_ITS_OWN_LOOPBACK": "0", "TF_CPP_MIN_LOG_LEVEL": "3"}


def test_there_are_scripts():
    assert {"chunks", "communication", "evaluation", "startup"} <= set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_has_settings(name):
    module = importlib.import_module(f"benchmarks.{name}")
    settings = module.Settings()
    assert settings.out == pathlib.Path(f"runs/benchmarks/{name}.json")
    assert not settings.smoke
    assert dataclasses.is_dataclass(settings)
    assert f"python -m benchmarks.{name} --smoke" in module.__doc__


@pytest.mark.large
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_runs(name, tmp_path):
    # In a separate process, as users run it: some scripts set up devices, all start processes.
    out = tmp_path / "result.json"
    completed = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--smoke", "--out", out],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert completed.returncode == 0, completed.stderr
    result = json.loads(out.read_text())
    assert result["rows"]
    assert all(result[key] for key in ("machine", "date", "settings", "versions"))
    assert "commit" in result
    lines = [line for line in completed.stdout.splitlines() if line.startswith("| ")]
    assert len(lines) >= 3  # header, rule, numbers
    assert set(lines[1]) <= set("| -")
    assert all(line.count("|") == lines[0].count("|") for line in lines[:3])


def test_table():
    expected = "| name | seconds |\n| --- | --- |\n| a | 1.0 |\n| b |  |"
    assert report.table(ROWS) == expected


def test_results_contain_machine_commit_and_date(tmp_path, capsys):
    out = tmp_path / "folder" / "result.json"
    report.write(out, {"steps": 3, "out": out}, ROWS)
    result = json.loads(out.read_text())
    assert result["rows"] == ROWS
    assert result["settings"] == {"steps": 3, "out": str(out)}
    assert result["date"] == datetime.date.today().isoformat()
    assert result["machine"] == report.machine()
    assert "cores" in result["machine"]
    assert result["commit"] == report.commit()
    assert result["versions"]["keras"].startswith("3.")
    assert capsys.readouterr().out == f"Written: {out}\n"


def test_the_commit_is_marked_if_files_differ(monkeypatch):
    def describe(command, **_):
        assert {"--always", "--dirty"} <= set(command)
        return subprocess.CompletedProcess(command, 0, stdout="1a2b3c4-dirty\n")

    monkeypatch.setattr(report.subprocess, "run", describe)
    assert report.commit() == "1a2b3c4-dirty"


def test_only_a_measuring_process_gets_a_request(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["script", "--measure", '{"batch": 3}'])
    assert subprocesses.read_request() == {"batch": 3}
    monkeypatch.setattr(sys, "argv", ["script", "--smoke"])
    assert subprocesses.read_request() is None


MODULE = """
import json, os, sys
from benchmarks.subprocesses import peak_memory, read_request
print("output of a library")
print(json.dumps({"given": read_request(), "variable": os.environ["NEW"], "peak": peak_memory()}))
"""


def test_measures_in_a_subprocess(tmp_path):
    (tmp_path / "small_module.py").write_text(MODULE)
    result = subprocesses.run_in_subprocess(
        "small_module",
        {"chunks": (1, 2), "out": tmp_path},
        environment={"PYTHONPATH": str(tmp_path), "NEW": "value"},
    )
    assert result["given"] == {"chunks": [1, 2], "out": str(tmp_path)}
    assert result["variable"] == "value"
    assert result["peak"] > 0.001
    with pytest.raises(subprocess.CalledProcessError):
        subprocesses.run_in_subprocess(
            "small_module", {}, environment={"PYTHONPATH": "", "NEW": ""}
        )
