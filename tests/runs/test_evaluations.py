"""Measurements of a run: all are kept, and the export's card says on which data each was made."""

import io
import json

import keras
import numpy as np
import pytest
from rich.console import Console

import keras_ssl
from keras_ssl import data, evaluate
from keras_ssl.runs.directory import Run
from keras_ssl.runs.json_files import write_json
from tests.runs.test_pretrain import SMALL, images

QUICK = {"labels_per_class": (), "draws": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return keras_ssl.pretrain(images(), out=tmp_path_factory.mktemp("runs") / "run", **SMALL)


def sets(seed, name):
    pixels = np.random.default_rng(seed).integers(0, 256, (30, 8, 8, 1), np.uint8)
    return tuple(
        data.arrays(part, np.arange(len(part)) % 3, name=name)
        for part in (pixels[:20], pixels[20:])
    )


def test_every_evaluation_is_kept_and_the_card_names_its_data(run):
    first, second = sets(1, "first"), sets(2, "second")
    run.evaluate(first, **QUICK)
    of_first = run.metrics["rows"]
    run.evaluate(second, **QUICK)
    run.evaluate(first, **QUICK)
    metrics = run.metrics
    assert [each["data"] for each in metrics["evaluations"]] == ["first", "second", "first"]
    assert metrics["data"] == "first"
    for each, (train, test) in zip(metrics["evaluations"], (first, second, first), strict=True):
        assert each["train"] == {"images": 20, "fingerprint": train.fingerprint()}
        assert each["test"] == {"images": 10, "fingerprint": test.fingerprint()}
        assert each["step"] == 6
        assert each["date"].startswith("20")
        assert each["date"].endswith("+00:00")
    assert metrics["evaluations"][0]["rows"] == of_first
    card = (run.export() / "README.md").read_text()
    assert card.count("### first\n") == card.count("### second\n") == 1  # the newest of each
    accuracy = metrics["evaluations"][1]["rows"]["trained"]["knn"]["accuracy"]
    part = card[card.index("### second") :]
    assert f"| rows.trained.knn.accuracy | {accuracy:.5g} |" in part
    assert f"(fingerprint `{second[0].fingerprint()[:8]}`)" in part
    assert "after training step 6" in part


def test_measurements_of_an_earlier_version_are_kept(run, tmp_path):
    old = Run.create(tmp_path / "old", run.config)
    (tmp_path / "old" / "checkpoints").symlink_to(run.checkpoints)
    rows = {"trained": {"knn": {"accuracy": 0.25}}}
    write_json(old.path / "metrics.json", {"data": "photos", "rows": rows})
    old.evaluate(sets(1, "first"), **QUICK)
    assert [each["data"] for each in old.metrics["evaluations"]] == ["photos", "first"]
    card = (old.export() / "README.md").read_text()
    assert "### photos\n\n| metric | value |" in card
    assert "| rows.trained.knn.accuracy | 0.25 |" in card


def test_an_unfinished_run_says_so(run, tmp_path, caplog):
    part = Run.create(tmp_path / "part", {**run.config, "epochs": 4})
    (tmp_path / "part" / "checkpoints").symlink_to(run.checkpoints)
    assert part.progress() == (6, 12)
    part.evaluate(sets(1, "first"), **QUICK)
    assert "is unfinished: its checkpoint after 6 of 12 training steps is evaluated." in caplog.text
    path = part.export()
    assert "its checkpoint after 6 of 12 training steps is exported." in caplog.text
    recipe = json.loads((path / "recipe.json").read_text())
    assert recipe == {**part.config, "unfinished": "6 of 12 training steps"}
    caplog.clear()
    run.evaluate(sets(1, "first"), **QUICK)
    assert "unfinished" not in caplog.text


def test_a_classifier_that_is_not_exported_yet_says_so(tmp_path):
    run = Run.create(tmp_path / "run", {"teacher": "teacher", "epochs": 3})
    for use in (run.encoder, run.network, run.export, lambda: run.evaluate(sets(1, "first"))):
        with pytest.raises(FileNotFoundError, match=r"must have finished.*not exported yet"):
            use()


def test_each_block_is_measured_beside_the_untrained_encoder(run):
    train, test = sets(1, "first")
    console = Console(file=io.StringIO(), width=120)
    rows = run.evaluate((train, test), **QUICK, by_block=True, console=console)
    assert list(rows) == ["untrained", "trained"]
    for name, encoder in (("trained", run.encoder()), ("untrained", run.untrained_encoder())):
        expected = evaluate.by_block(encoder, train, test, k=rows[name]["knn"]["settings"]["k"])
        assert rows[name]["by_block"] == expected.to_dict()["pooled"]
        last = rows[name]["by_block"]["block3"]
        assert last["linear"]["accuracy"] == rows[name]["linear"]["accuracy"]
        assert last["knn"]["accuracy"] == rows[name]["knn"]["accuracy"]
    written = run.metrics
    block1 = rows["trained"]["by_block"]["block1"]["linear"]["accuracy"]
    for found in (written, written["evaluations"][-1]):
        assert found["rows"]["trained"]["by_block"]["block1"]["linear"]["accuracy"] == block1
    printed = console.file.getvalue()
    assert "linear, untrained" in printed
    assert f"Picture: {run.path / 'by_block.png'}" in printed
    assert "by_block" not in (run.export() / "README.md").read_text()
    run.evaluate((train, test), **QUICK)  # without: the newest rows have no blocks
    assert "by_block" not in run.metrics["rows"]["trained"]
    assert list(run.metrics["evaluations"][-2]["rows"]["trained"]["by_block"]) == [
        "block1",
        "block2",
        "block3",
    ]


def test_an_encoder_without_blocks_is_refused_before_the_images_are_read(run, monkeypatch):
    inputs = keras.Input((8, 8, 1))
    flat = keras.Model(inputs, keras.layers.Flatten()(inputs), name="flat")
    monkeypatch.setattr(keras_ssl.Run, "network", lambda run: flat)
    with pytest.raises(ValueError, match=r"no blocks to measure.* Received: 'flat'"):
        run.evaluate("no such data", by_block=True)
