"""Every recipe runs in its smoke form, from images to an export, and refuses unknown settings."""

import importlib.util
import json
import pathlib
import shutil
import sys

import numpy as np
import pytest
import tensorflow as tf
import tyro

from keras_ssl import export

RECIPES = sorted((pathlib.Path(__file__).parents[1] / "recipes").glob("*.py"))
# Those go the whole way, to students.
SIMCLR_V2 = [path for path in RECIPES if path.stem.startswith("simclrv2_")]
# Those run under a strategy of any kind, and measure the trained network alone.
LARGE = [p for p in RECIPES if p.stem.endswith("_imagenet") and p not in SIMCLR_V2]
SMALL = [path for path in RECIPES if path not in (*LARGE, *SIMCLR_V2)]


def recipe(path):
    spec = importlib.util.spec_from_file_location(f"recipe_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where tyro looks for the source of its help
    spec.loader.exec_module(module)
    return module


def test_there_are_recipes():
    assert len(SMALL) >= 2
    assert len(LARGE) >= 2


def slow_ones_large(paths, quick):
    """Marks all recipes but one as large: they take long to compile, and do the same."""
    return [
        path if path.stem.startswith(quick) else pytest.param(path, marks=pytest.mark.large)
        for path in paths
    ]


@pytest.mark.parametrize(
    "path", slow_ones_large(SMALL, "simclr_cifar10_cpu"), ids=lambda path: path.stem
)
def test_smoke(path, tmp_path):
    module = recipe(path)
    out = tmp_path / "run"
    settings = tyro.cli(module.Settings, args=["--smoke", "--out", str(out)])
    module.main(settings)

    rows = json.loads((out / "metrics.json").read_text())["rows"]
    assert list(rows) == ["raw pixels", "untrained", "trained"]
    assert rows["untrained"]["knn"]["settings"] == rows["trained"]["knn"]["settings"]
    history = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in history] == [1, 2]
    assert export.load(out / "export").input_shape == (None, 32, 32, 3)

    # Called again, it finds the run finished and trains no further.
    module.main(settings)
    assert (out / "history.jsonl").read_text().count("\n") == 2


@pytest.mark.parametrize("path", slow_ones_large(LARGE, "moco"), ids=lambda path: path.stem)
def test_smoke_on_two_devices(path, tmp_path):
    module = recipe(path)
    out = tmp_path / "run"
    words = ["--smoke", "--strategy", "mirrored", "--out", str(out)]
    module.main(tyro.cli(module.Settings, args=words))

    (result,) = json.loads((out / "metrics.json").read_text())["rows"].values()
    assert set(result) == {"knn", "linear", "few_labels"}
    history = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in history] == [1, 2]
    assert all(np.isfinite(line["loss"]) for line in history)
    encoder = export.load(out / "export")
    assert encoder.input_shape == (None, 32, 32, 3)

    # Called again, it finds the run finished and trains no further; it measures the same network.
    again = tyro.cli(module.Settings, args=[*words, "--no-evaluate"])
    module.main(again)
    assert (out / "history.jsonl").read_text().count("\n") == 2
    same = zip(encoder.get_weights(), export.load(out / "export").get_weights(), strict=True)
    assert all(np.array_equal(first, second) for first, second in same)


@pytest.mark.large
@pytest.mark.parametrize("path", LARGE, ids=lambda path: path.stem)
def test_a_recipe_takes_folders_of_classes(path, tmp_path):
    for part, count in (("train", 8), ("val", 2)):
        for number in range(2 * count):
            folder = tmp_path / "images" / part / f"class{number % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 256, (40, 30 + number, 3), np.uint8)
            tf.io.write_file(str(folder / f"{number}.jpg"), tf.io.encode_jpeg(pixels))
    module = recipe(path)
    words = ["--data", str(tmp_path / "images"), "--out", str(tmp_path / "run")]
    words += ["--depth", "18", "--width", "0.0625", "--image-size", "32", "--batch-size", "8"]
    words += ["--epochs", "1"]
    words += ["--queue-size", "4"] if "moco" in path.stem else ["--warmup-epochs", "0"]
    module.main(tyro.cli(module.Settings, args=words))
    result = json.loads((tmp_path / "run" / "metrics.json").read_text())["rows"]["trained"]["knn"]
    assert (result["train_size"], result["test_size"]) == (16, 4)


@pytest.mark.large
@pytest.mark.parametrize("path", SIMCLR_V2, ids=lambda path: path.stem)
def test_smoke_of_simclr_v2(path, tmp_path):
    module = recipe(path)
    out = tmp_path / "run"
    words = ["--smoke", "--out", str(out)]
    if path.stem.endswith("_imagenet"):
        words += ["--strategy", "mirrored"]
    settings = tyro.cli(module.Settings, args=words)
    module.main(settings)

    rows = json.loads((out / "metrics.json").read_text())["rows"]
    stages = ["from-scratch", "linear-probe", "fine-tuned", "self-distilled", "small-student"]
    expected = stages[2:] if path.stem.endswith("_imagenet") else stages
    assert list(rows) == [f"0.5 {stage}" for stage in expected]
    assert all(0 <= row["accuracy"] <= 1 for row in rows.values())
    parameters = [rows[f"0.5 {stage}"]["parameters"] for stage in stages[2:]]
    assert parameters[0] == parameters[1] > 2 * parameters[2]
    student = export.load(out / "labels-0.5" / "small-student" / "export")
    assert student.count_params() == parameters[2]

    # Called again, it finds all stages done; one that is gone is made again from its teacher.
    shutil.rmtree(out / "labels-0.5" / "small-student")
    files = {file: file.stat().st_mtime_ns for file in out.rglob("export/saved_model.pb")}
    module.main(settings)
    assert all(file.stat().st_mtime_ns == then for file, then in files.items())
    assert (out / "labels-0.5" / "small-student" / "export").is_dir()


@pytest.mark.large
def test_the_study_of_views_runs(capsys):
    module = recipe(RECIPES[0].parent / "studies" / "digits_views.py")
    module.main(tyro.cli(module.Settings, args=["--smoke"]))
    assert "elastic" in capsys.readouterr().out


@pytest.mark.large
def test_the_study_of_momenta_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    module = recipe(RECIPES[0].parent / "studies" / "momentum.py")
    monkeypatch.setattr(module, "MOMENTA", (0.0, 1.0))
    settings = tyro.cli(module.Settings, args=["--smoke", "--out", str(tmp_path)])
    module.main(settings)
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert list(rows) == ["untrained", "MoCo 0", "MoCo 1", "BYOL 0", "BYOL 1"]
    assert all(0 <= row["linear"] <= 100 for row in rows.values())
    assert (tmp_path / "momentum.png").stat().st_size > 5_000

    monkeypatch.setattr(module, "trained", None)  # what is there is not trained again
    first = capsys.readouterr().out
    module.main(settings)
    assert capsys.readouterr().out == first

    with pytest.raises(ValueError, match="results of other settings"):
        module.main(
            tyro.cli(module.Settings, args=["--smoke", "--seed", "1", "--out", str(tmp_path)])
        )


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_an_unknown_setting_is_an_error(path, capsys):
    with pytest.raises(SystemExit) as stop:
        tyro.cli(recipe(path).Settings, args=["--epoch", "3"])
    assert stop.value.code == 2
    assert "--epoch" in capsys.readouterr().err
