"""`keras-ssl demo`."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

from keras_ssl.callbacks.checkpoint_files import checkpoints
from keras_ssl.runs.directory import Run
from tests.command_line import StopAt, call


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "run"
    status, out, err = call("demo", "--epochs", 2, "--out", path)
    assert status == 0, err
    return path, out


def test_demo(demo):
    path, _ = demo
    for name in ("config.json", "history.jsonl", "metrics.json", "demo.png"):
        assert (path / name).is_file(), name
    assert (path / "export" / "saved_model.pb").is_file()
    with Image.open(path / "demo.png") as image:
        image.load()
    rows = json.loads((path / "metrics.json").read_text())["rows"]
    assert list(rows) == ["raw pixels", "untrained", "trained"]
    for row in rows.values():
        few = {(result["protocol"], result["per_class"]) for result in row["few_labels"]}
        assert few == {(protocol, count) for protocol in ("knn", "linear") for count in (1, 5, 10)}
        assert all(len(result["accuracies"]) >= 10 for result in row["few_labels"])
    assert rows["raw pixels"]["linear"]["accuracy"] > 0.9


def test_the_printed_lines_load_the_encoder(demo):
    _, out = demo
    lines = out[out.index("import keras_ssl") :].strip()
    assert len(lines.splitlines()) == 3
    found = {"images": np.zeros((5, 8, 8, 1), np.float32)}
    exec(lines, found)
    assert isinstance(found["encoder"], keras.Model)
    assert found["features"].shape == (5, found["encoder"].output_shape[-1])


def test_the_run_of_a_demo_is_evaluated_like_others(demo):
    path, _ = demo
    before = json.loads((path / "metrics.json").read_text())["rows"]
    status, _, err = call("evaluate", path, "--data", "digits", "--draws", 2)
    assert status == 0, err
    after = json.loads((path / "metrics.json").read_text())["rows"]
    assert after["trained"]["knn"]["accuracy"] == before["trained"]["knn"]["accuracy"]


@pytest.mark.large
def test_an_interrupted_demo_resumes(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_ssl.runs.pretrain._build_monitors", lambda *_: [StopAt(3)])
    path = tmp_path / "run"
    status, out, _ = call("demo", "--epochs", 1, "--out", path)
    assert status == 130
    assert "Stopped after step 3" in out
    monkeypatch.undo()
    status, out, err = call("pretrain", "--resume", path)
    assert status == 0, err
    assert checkpoints(Run(path).checkpoints)[-1][0] == 5


@pytest.mark.large
@pytest.mark.parametrize("seed", [0, 1])
def test_the_trained_encoder_wins_with_few_labels(tmp_path, seed):
    out = tmp_path / "run"
    assert call("demo", "--out", out, "--seed", seed)[0] == 0

    rows = json.loads((out / "metrics.json").read_text())["rows"]
    means = {
        name: {(r["protocol"], r["per_class"]): r["mean"] for r in row["few_labels"]}
        for name, row in rows.items()
    }
    for protocol in ("knn", "linear"):
        for count in (1, 5, 10):
            case = (protocol, count)
            assert means["trained"][case] >= means["untrained"][case] + 0.10, case
            if count > 1:
                assert means["trained"][case] > means["raw pixels"][case], case
