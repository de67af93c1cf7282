import json
import pathlib

import numpy as np
import pytest

from keras_ssl.runs.directory import Run
from keras_ssl.runs.history import HistoryFile
from keras_ssl.runs.json_files import write_json


def test_a_new_run_stores_settings_and_versions(tmp_path):
    run = Run.create(
        tmp_path / "runs" / "first", {"method": "simclr", "out": tmp_path, "epochs": 3}
    )
    assert Run(run.path).config == {"method": "simclr", "out": str(tmp_path), "epochs": 3}
    versions = json.loads((run.path / "config.json").read_text())["versions"]
    assert set(versions) == {"keras_ssl", "python", "tensorflow", "keras"}
    assert run.metrics == {}
    assert run.history == []


def test_an_empty_directory_is_accepted(tmp_path):
    assert Run.create(tmp_path, {}).path == tmp_path


def test_nothing_is_overwritten(tmp_path):
    Run.create(tmp_path / "run", {"epochs": 1})
    with pytest.raises(FileExistsError, match=r"needs a new directory.*not empty"):
        Run.create(tmp_path / "run", {"epochs": 2})
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        Run.create(tmp_path / "file", {})
    assert Run(tmp_path / "run").config == {"epochs": 1}


def test_a_directory_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"must contain config\.json.* and there is no such directory"
    ):
        _ = Run(tmp_path / "nowhere").config
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(FileNotFoundError, match=r"with photo\.jpg"):
        _ = Run(tmp_path).config


def test_metrics_are_merged(tmp_path):
    run = Run.create(tmp_path / "run", {})
    run.add_metrics({"knn": np.float32(0.5), "counts": np.arange(2)})
    run.add_metrics({"linear": 0.75, "knn": 0.625})
    assert Run(run.path).metrics == {"knn": 0.625, "counts": [0, 1], "linear": 0.75}


def test_a_repeated_epoch_replaces_its_history(tmp_path):
    run = Run.create(tmp_path / "run", {})
    writer = HistoryFile(run)
    for epoch, loss in ((0, 5.0), (1, 4.0), (1, 3.5), (2, np.float32(3.25))):
        writer.on_epoch_end(epoch, {"loss": loss})
    assert run.history == [
        {"epoch": 1, "loss": 5.0},
        {"epoch": 2, "loss": 3.5},
        {"epoch": 3, "loss": 3.25},
    ]


def test_json_is_written_atomically(tmp_path):
    file = tmp_path / "metrics.json"
    write_json(file, {"path": pathlib.Path("a"), "value": np.int64(3)})
    before = file.read_text()
    assert json.loads(before) == {"path": "a", "value": 3}
    with pytest.raises(TypeError, match=r"JSON cannot hold <object object .* of type object"):
        write_json(file, {"value": 4, "other": object()})
    assert file.read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]
