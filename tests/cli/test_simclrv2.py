"""`keras-ssl simclrv2`, on handwritten digits."""

import json
import shutil

import pytest

import keras_ssl
from tests.command_line import assert_same_weights, call, interrupt

QUICK = ["--data", "digits", "--batch-size", 128]
WHOLE = [*QUICK, "--backbone", "tiny", "--student-width", 0.25, "--labels", 0.05]
EPOCHS = ["--epochs", 1, "--finetune-epochs", 4, "--finetune-steps", 0, "--distill-epochs", 1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "finished"
    status, out, err = call("simclrv2", *WHOLE, *EPOCHS, "--out", path)
    assert status == 0, err
    return path, out


def test_all_stages_run_and_a_table_is_printed(finished):
    path, out = finished
    rows = json.loads((path / "metrics.json").read_text())["rows"]
    names = ["from scratch", "linear probe", "fine-tuned", "self-distilled", "small student"]
    assert [row["network"] for row in rows] == names
    for row in rows:
        assert row["network"] in out
        assert 0 <= row["accuracy"] <= 1
        assert min(row[name] for name in ("parameters", "flops", "bytes")) > 0
    parameters = {row["network"]: row["parameters"] for row in rows}
    assert parameters["small student"] < parameters["fine-tuned"] / 3


def test_a_stage_that_is_done_is_not_repeated(finished, tmp_path):
    path = tmp_path / "copy"
    shutil.copytree(finished[0], path)
    shutil.rmtree(path / "small-student-0.05")
    before = {file: file.stat().st_mtime_ns for file in path.rglob("export/saved_model.pb")}
    status, _, err = call("simclrv2", "--resume", path)
    assert status == 0, err
    assert all(file.stat().st_mtime_ns == then for file, then in before.items())
    rows, old = (
        json.loads((root / "metrics.json").read_text())["rows"] for root in (path, finished[0])
    )
    assert [row["accuracy"] for row in rows] == [row["accuracy"] for row in old]

    # A stage whose export failed is exported, not trained again.
    stage = path / "self-distilled-0.05"
    network = keras_ssl.Run(stage).network()
    shutil.rmtree(stage / "export")
    network.save(stage / "network.keras")
    status, _, err = call("simclrv2", "--resume", path)
    assert status == 0, err
    assert (stage / "export" / "saved_model.pb").is_file()
    assert not (stage / "network.keras").exists()
    status, _, err = call("simclrv2", "--resume", path, "--labels", 0.5)
    assert status == 1
    assert "labels: (0.05,) in the run, (0.5,) now" in err


def test_an_interrupted_fine_tuning_goes_on_from_its_checkpoint(finished, tmp_path, monkeypatch):
    path = tmp_path / "copy"
    shutil.copytree(finished[0], path)
    shutil.rmtree(path / "fine-tuned-0.05")
    interrupt(monkeypatch, "simclrv2", "--resume", path)
    stage, whole = (keras_ssl.Run(each / "fine-tuned-0.05") for each in (path, finished[0]))
    assert stage.progress() == (3, 4)
    lines = [line | {"loss": 7.0} for line in stage.history]  # these epochs are not trained again
    stage.history_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    status, _, err = call("simclrv2", "--resume", path)
    assert status == 0, err
    assert [line["loss"] for line in stage.history] == [7.0, 7.0, 7.0, whole.history[-1]["loss"]]
    assert_same_weights(whole, stage)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "needs images"),
        ([*QUICK, "--labels"], "--labels must list at least one share. Received: none"),
        ([*QUICK, "--labels", 2], "`labels` must be in (0, 1]. Received: labels=2"),
        ([*QUICK, "--head-layers", 0], "Received: --from-layer 1, --head-layers 0"),
        (["--resume", "nowhere"], "A run directory must contain config.json. Received: 'nowhere'"),
    ],
)
def test_wrong_options_create_nothing(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = call("simclrv2", *words)
    assert status == 1
    assert message in err
    assert list(tmp_path.iterdir()) == []
