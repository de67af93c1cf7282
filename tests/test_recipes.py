"""Recipes: their form, and that each runs on noise, resumes, and ends with results and an export."""

import ast
import json
import pathlib
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from keras_ssl import export
from keras_ssl.cli.pretrain import Pretrain
from keras_ssl.cli.program import parse
from keras_ssl.cli.recipes import list_recipes, recipe_run
from keras_ssl.cli.simclrv2 import SimCLRv2
from keras_ssl.presets import PRESETS
from keras_ssl.runs.directory import Run
from tests.command_line import StopAt, call

FOLDER = pathlib.Path(__file__).parents[1] / "recipes"
RECIPES = {path.stem: path for path in sorted(FOLDER.glob("*.py"))}
PRETRAIN = [name for name in RECIPES if not name.startswith("simclrv2_")]
SIMCLRV2 = [name for name in RECIPES if name.startswith("simclrv2_")]
STUDIES = sorted((FOLDER / "studies").glob("*.py"))


def read(name):
    return runpy.run_path(str(RECIPES[name]), run_name="recipe")


@pytest.mark.parametrize("path", [*RECIPES.values(), *STUDIES], ids=lambda path: path.stem)
def test_a_recipe_is_short(path):
    assert len(path.read_text().splitlines()) <= 60


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_data_with_a_header(name):
    tree = ast.parse(RECIPES[name].read_text())
    header = ast.get_docstring(tree)
    for field in ("Hardware: ", "\nTime:", "\nMeasured"):
        assert field in header
    kinds = [type(node).__name__ for node in tree.body]
    assert kinds == ["Expr", *["ImportFrom"] * (len(kinds) - 3), "Assign", "If"]
    command = "simclrv2" if name.startswith("simclrv2_") else "pretrain"
    assert f"keras-ssl {command} --recipe {name} " in header
    assert isinstance(read(name)["RECIPE"], SimCLRv2 if command == "simclrv2" else Pretrain)


@pytest.mark.parametrize("name", PRETRAIN)
def test_the_settings_of_a_recipe_of_pretrain_become_the_defaults(name):
    recipe = read(name)["RECIPE"]
    command = parse(["pretrain", "--recipe", name, "--epochs", "7", "--data-dir", "here"])
    assert command.preset.epochs == 7
    assert command.data_dir == pathlib.Path("here")
    assert command.preset.learning_rate == recipe.preset.learning_rate
    assert (command.data, command.method) == (recipe.data, recipe.preset.method)
    assert command.evaluate


@pytest.mark.parametrize("name", SIMCLRV2)
def test_the_settings_of_a_recipe_of_simclrv2_become_the_defaults(name):
    words = ["--labels", "0.5", "0.2", "--queue-size", "9", "--no-verify", "--out", "here"]
    command = parse(["simclrv2", "--recipe", name, *words])
    changed = {"labels": (0.5, 0.2), "queue_size": 9, "verify": False, "out": pathlib.Path("here")}
    assert command == replace(read(name)["RECIPE"], recipe=name, **changed)


def test_flags_of_a_recipe_can_be_switched_off():
    command = parse(["pretrain", "--recipe", "simclr_cifar10", "--no-evaluate", "--verify"])
    assert (command.evaluate, command.verify, command.baselines) == (False, True, True)
    command = parse(["pretrain", "--recipe", "moco_v2_cifar10", "--symmetric", "--groups", "4"])
    assert (command.preset.symmetric, command.preset.groups) == (True, 4)


def test_recipes_are_listed():
    for command, kind in (("pretrain", Pretrain), ("simclrv2", SimCLRv2)):
        text = list_recipes(command, kind)
        status, out, _ = call(command, "--recipe")
        assert (status, out.strip()) == (0, text.strip())
        assert call(command, "--recipe", "--epochs", 3)[1] == out
        listed = [line.split()[0] for line in text.splitlines()[2:]]
        assert listed == [name for name in RECIPES if (name in PRETRAIN) == (kind is Pretrain)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pretrain", "--recipe", "simclr_cifar"], "Unknown recipe. Nearest: simclr_cifar10"),
        (["simclrv2", "--recipe", "simclrv2_imagnet"], "Nearest: simclrv2_imagenet"),
        (["pretrain", "--recipe", "simclrv2_imagenet"], "RECIPE = Pretrain(...)"),
        (["simclrv2", "--recipe", "byol_imagenet"], "RECIPE = SimCLRv2(...)"),
        (
            ["pretrain", "--recipe", "nowhere.py"],
            "There must be a recipe file. Received: 'nowhere.py'",
        ),
        (["pretrain", "--recipe", "byol_imagenet", "--queue-size", 3], "has no --queue-size"),
        (
            ["pretrain", "--recipe", "byol_imagenet", "--method", "moco"],
            "Expected: --method byol, or none. Received: --recipe byol_imagenet with moco",
        ),
    ],
)
def test_wrong_recipes_are_refused(words, message):
    status, _, err = call(*words)
    assert status == 1
    assert message in err


def test_a_recipe_file_is_given_by_its_path(tmp_path, monkeypatch):
    text = (
        "from keras_ssl.cli.pretrain import Pretrain\n"
        "from keras_ssl.presets import BYOL\n"
        "RECIPE = Pretrain(preset=BYOL(momentum=0.9), data='digits')\n"
    )
    (tmp_path / "own.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    for path in ("own.py", str(tmp_path / "own.py")):
        command = parse(["pretrain", "--recipe", path, "--hidden-units", "8"])
        assert (command.preset.momentum, command.preset.hidden_units) == (0.9, 8)
        assert command.data == "digits"
    (tmp_path / "own.py").write_text("RECIPE = 3\n")
    status, _, err = call("pretrain", "--recipe", "own.py")
    assert status == 1
    assert "Received: 'own.py' with RECIPE of type int" in err


def test_a_recipe_has_a_default_run_directory():
    assert recipe_run("simclr_cifar10", smoke=False) == pathlib.Path("runs/simclr_cifar10")
    assert recipe_run("here/own.py", smoke=True) == pathlib.Path("runs/own-smoke")


@pytest.mark.parametrize(
    "name",
    [
        name if name == "moco_v2_cifar10_cpu" else pytest.param(name, marks=pytest.mark.large)
        for name in PRETRAIN
    ],
)
def test_a_recipe_runs_on_noise(name, tmp_path):
    words = ["pretrain", "--recipe", name, "--smoke", "--out", tmp_path / "run"]
    if name.endswith("_imagenet"):
        words += ["--strategy", "mirrored"]
    status, _, err = call(*words)
    assert status == 0, err
    metrics = tmp_path / "run" / "metrics.json"
    history = tmp_path / "run" / "history.jsonl"
    baselines = ["raw pixels", "untrained"] * read(name)["RECIPE"].baselines
    assert list(json.loads(metrics.read_text())["rows"]) == [*baselines, "trained"]
    epochs = [json.loads(line) for line in history.read_text().splitlines()]
    assert [line["epoch"] for line in epochs] == [1, 2]
    assert all(np.isfinite(line["loss"]) for line in epochs)
    encoder = export.load(tmp_path / "run" / "export")
    assert encoder.input_shape == (None, 32, 32, 3)

    # Called again, it finds the run finished, and measures and exports the same network.
    rows = json.loads(metrics.read_text())["rows"]
    (tmp_path / "run" / "export").rename(tmp_path / "first")
    status, _, err = call(*words)
    assert status == 0, err
    assert [json.loads(line) for line in history.read_text().splitlines()] == epochs
    again = json.loads(metrics.read_text())["rows"]
    assert again["trained"]["knn"]["accuracy"] == rows["trained"]["knn"]["accuracy"]
    exports = (export.load(path) for path in (tmp_path / "first", tmp_path / "run" / "export"))
    for first, second in zip(*(each.get_weights() for each in exports), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.large
@pytest.mark.parametrize("name", ["byol_cifar10_cpu", "moco_v2_imagenet"])
def test_an_interrupted_recipe_continues_when_called_again(name, tmp_path, monkeypatch):
    words = ["pretrain", "--recipe", name, "--smoke", "--no-evaluate"]
    assert call(*words, "--out", tmp_path / "whole")[0] == 0
    monkeypatch.setattr("keras_ssl.runs.pretrain._build_monitors", lambda *_: [StopAt(3)])
    status, out, _ = call(*words, "--out", tmp_path / "run")
    assert status == 130
    assert "Stopped after step 3" in out
    monkeypatch.undo()
    status, _, err = call(*words, "--out", tmp_path / "run")
    assert status == 0, err
    encoders = (Run(tmp_path / name).encoder().get_weights() for name in ("whole", "run"))
    for expected, found in zip(*encoders, strict=True):
        np.testing.assert_array_equal(expected, found)


@pytest.mark.large
@pytest.mark.parametrize("name", [name for name in PRETRAIN if name.endswith("_imagenet")])
def test_a_recipe_takes_folders_of_classes(name, tmp_path):
    random = np.random.default_rng(0)
    for part, count in (("train", 16), ("val", 4)):
        for number in range(count):
            path = tmp_path / "images" / part / f"class{number % 2}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = random.integers(0, 256, (40, 30 + number, 3), np.uint8)
            Image.fromarray(pixels).save(path)
    words = ["--data", tmp_path / "images", "--out", tmp_path / "run", "--backbone", "resnet18"]
    words += ["--width", 0.0625, "--image-size", 32, "--batch-size", 8, "--epochs", 1]
    words += ["--queue-size", 4] if name.startswith("moco") else ["--warmup-epochs", 0]
    words += ["--groups", 2] if name.startswith("moco") else []
    status, _, err = call("pretrain", "--recipe", name, *words)
    assert status == 0, err
    result = Run(tmp_path / "run").metrics["rows"]["trained"]["knn"]
    assert (result["train_size"], result["test_size"]) == (16, 4)


@pytest.mark.large
@pytest.mark.parametrize("name", SIMCLRV2)
def test_a_recipe_of_simclrv2_runs_on_noise(name, tmp_path):
    out = tmp_path / "run"
    words = ["simclrv2", "--recipe", name, "--smoke", "--out", out]
    if name.endswith("_imagenet"):
        words += ["--strategy", "mirrored"]
    status, _, err = call(*words)
    assert status == 0, err
    rows = json.loads((out / "metrics.json").read_text())["rows"]
    stages = ["from scratch", "linear probe", "fine-tuned", "self-distilled", "small student"]
    assert [row["network"] for row in rows] == stages
    parameters = [row["parameters"] for row in rows[2:]]
    assert parameters[0] == parameters[1] > 1.5 * parameters[2]

    # Called again, it repeats only the stage that is missing.
    shutil.rmtree(out / "small-student-0.5")
    files = {file: file.stat().st_mtime_ns for file in out.rglob("export/saved_model.pb")}
    assert call(*words)[0] == 0
    assert all(file.stat().st_mtime_ns == then for file, then in files.items())
    assert (out / "small-student-0.5" / "export").is_dir()


@pytest.mark.large
def test_a_recipe_runs_as_a_script(tmp_path):
    done = subprocess.run(
        [sys.executable, RECIPES["simclr_cifar10_cpu"], "--smoke"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    exported = tmp_path / "runs" / "simclr_cifar10_cpu-smoke" / "export"
    assert (exported / "saved_model.pb").is_file()


@pytest.mark.large
@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_runs_on_noise_and_continues(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path), "--smoke"])
    runpy.run_path(str(path), run_name="__main__")
    if path.stem == "equal_time":
        folders = [file.parent.name for file in tmp_path.rglob("by_block.png")]
        assert sorted(folders) == sorted(f"{method}-0" for method in PRESETS)
        return
    if path.stem == "digits_views":
        assert "elastic" in capsys.readouterr().out
        return
    picture = tmp_path / "runs" / "momentum" / "momentum.png"
    assert picture.stat().st_size > 5_000
    runs = {file: file.read_text() for file in tmp_path.rglob("history.jsonl")}
    assert len(runs) == 12
    runpy.run_path(str(path), run_name="__main__")
    assert all(file.read_text() == text for file, text in runs.items())
