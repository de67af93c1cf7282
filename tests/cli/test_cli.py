"""The command line from end to end: the whole way on real files, and what it refuses."""

import contextlib
import io
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

import keras_ssl
from keras_ssl import cli, names
from keras_ssl.callbacks.checkpoint_files import checkpoints
from keras_ssl.commands.export import load_backbone
from keras_ssl.run import Run

TINY = ["--backbone", "tiny", "--width", "0.25", "--embedding", "8"]


def keras_ssl_command(*words):
    """Runs a command in this process and returns its exit status, output and error output."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = exit_status([str(word) for word in words])
    return status, out.getvalue(), err.getvalue()


def exit_status(words):
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    return stop.value.code or 0


def picture(number, side, grey, seed):
    """An image of class 0 has stripes along one axis, of class 1 along the other."""
    rng = np.random.default_rng(seed)
    stripes = np.sin(np.arange(side) * rng.uniform(0.7, 1.0) + rng.uniform(0, 6))
    image = np.tile(stripes, (side, 1)) if number else np.tile(stripes[:, None], (1, side))
    image = np.clip(128 + 90 * image + rng.normal(0, 10, (side, side)), 0, 255).astype(np.uint8)
    return Image.fromarray(image) if grey else Image.fromarray(image).convert("RGB")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Class folders with train and val, of mixed sizes and kinds, and one file that is cut short."""
    root = tmp_path_factory.mktemp("data") / "photos [2]"
    kinds = ["jpg", "png", "bmp", "gif"]
    for part, count in (("train", 20), ("val", 8)):
        for number, name in enumerate(("across", "down")):
            folder = root / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                seed = 1000 * number + 100 * (part == "val") + index
                image = picture(number, 16 + index % 5, index % 3 == 0, seed)
                image.save(folder / f"{index}.{kinds[index % 4]}")
    broken = root / "train" / "down" / "broken.jpg"
    broken.write_bytes((root / "train" / "down" / "0.jpg").read_bytes()[:300])
    return root


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    """A finished run on the photos, and what it printed."""
    path = tmp_path_factory.mktemp("runs") / "run"
    words = ["--data", photos, "--out", path, "--image-size", 16, "--epochs", 2, "--batch-size", 8]
    status, out, err = keras_ssl_command("pretrain", *words, *TINY, "--knn-every", 1)
    assert status == 0, err
    return path, out


def test_pretrain_on_class_folders(run, photos):
    path, out = run
    assert "40 images, 2 classes" in out
    assert str(photos / "train" / "down" / "broken.jpg") in out
    assert "Skipped: 1 unreadable image files" in out
    assert f"keras-ssl evaluate {path} --data DATA\n" in out
    assert f"keras-ssl export {path}\n" in out
    assert re.search(r"^epoch 2/2: loss \d\.\d+, .*knn [01]\.\d+", out, re.MULTILINE)
    saved = Run(path)
    assert [line["epoch"] for line in saved.history] == [1, 2]
    assert all({"loss", "knn", "feature_std"} <= line.keys() for line in saved.history)
    assert checkpoints(saved.checkpoints)[-1][0] == 10
    assert saved.config["image_channels"] == 3
    assert saved.config["policy"] == "simclr-small"
    assert list(saved.logs.rglob("events.*"))


def test_evaluate_with_baselines(run, photos):
    path, _ = run
    words = ["--data", photos, "--baselines", "--labels-per-class", 1, 3, "--draws", 3]
    status, out, err = keras_ssl_command("evaluate", path, *words)
    assert status == 0, err
    rows = json.loads((path / "metrics.json").read_text())["rows"]
    assert list(rows) == ["raw pixels", "untrained", "trained"]
    for name, row in rows.items():
        assert name in out
        assert 0 <= row["knn"]["accuracy"] <= 1
        assert f"{100 * row['linear']['accuracy']:.1f}" in out
        assert {result["per_class"] for result in row["few_labels"]} == {1, 3}
    assert rows["trained"] != rows["untrained"]
    assert "Skipped: 1" in out


def test_export_and_load(run, photos, tmp_path):
    path, _ = run
    status, out, err = keras_ssl_command("export", path)
    assert status == 0, err
    lines = out[out.index("import keras_ssl") :]
    images = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
    found = {"images": images}
    exec(lines, found)
    expected = load_backbone(Run(path))(images)
    np.testing.assert_allclose(found["features"], expected, atol=1e-5)

    # An export is evaluated like a run, and so is one that lies elsewhere.
    status, out, err = keras_ssl_command("export", path, "--out", tmp_path / "elsewhere")
    assert status == 0, err
    words = ["--data", photos, "--labels-per-class", 1, "--draws", 2]
    status, out, err = keras_ssl_command("evaluate", tmp_path / "elsewhere", *words)
    assert status == 0, err
    assert "trained" in out


@pytest.mark.parametrize("kind", ["digits", "npz", "flat folder"])
def test_pretrain_on(kind, photos, tmp_path):
    data = "digits"
    words = []
    if kind == "npz":
        data = tmp_path / "few.npz"
        np.savez(data, images=np.random.default_rng(0).integers(0, 256, (40, 10, 10, 4), np.uint8))
    elif kind == "flat folder":
        data = photos / "val" / "down"
        words = ["--channels", 1, "--image-size", 12]
    path = tmp_path / "run"
    status, _, err = keras_ssl_command(
        "pretrain", "--data", data, "--out", path, "--epochs", 1, "--batch-size", 8, *TINY, *words
    )
    assert status == 0, err
    config = Run(path).config
    expected = {"digits": (8, 1, "centred"), "npz": (10, 4, "simclr-small")}
    expected["flat folder"] = (12, 1, "simclr-small")
    found = (config["image_size"], config["image_channels"], config["policy"])
    assert found == expected[kind]
    if kind == "digits":  # has labels of its own for both
        status, _, err = keras_ssl_command(
            "evaluate", path, "--data", "digits", "--labels-per-class", 1, "--draws", 2
        )
        assert status == 0, err
        assert json.loads((path / "metrics.json").read_text())["data"] == "digits"
    else:
        unlabelled(path, data)


def unlabelled(path, data):
    status, _, err = keras_ssl_command("evaluate", path, "--data", data)
    assert status == 1
    assert "Evaluation needs labels. Expected: class sub-folders, or arrays with labels." in err
    assert not (path / "metrics.json").exists()


def test_evaluate_sets_images_aside_where_there_are_no_test_images(run, photos):
    path, _ = run
    words = ["--data", photos / "val", "--labels-per-class", 1, "--draws", 2]
    status, out, err = keras_ssl_command("evaluate", path, *words)
    assert status == 0, err
    assert "No test images of their own: 4 of the images were set aside." in out


DEFAULTS = {
    "simclr": {"temperature": 0.5, "embedding": 8, "head_layers": 2, "optimizer": "lars"},
    "simclr-memory": {
        "temperature": 0.1,
        "embedding": 8,
        "head_layers": 3,
        "momentum": 0.999,
        "final_momentum": 0.999,
        "queue_size": 718,
        "optimizer": "lars",
    },
    "moco": {
        "temperature": 0.2,
        "embedding": 8,
        "momentum": 0.999,
        "final_momentum": 0.999,
        "queue_size": 718,
        "groups": 5,  # 6, 7 and 8 do not divide the batch of 500
        "optimizer": "sgd",
    },
    "byol": {"embedding": 8, "momentum": 0.996, "final_momentum": 1.0, "optimizer": "lars"},
    "memory-bank": {"temperature": 0.07, "embedding": 8, "optimizer": "sgd"},
}


def test_every_method_has_its_defaults_here():
    assert list(DEFAULTS) == list(names.METHODS)


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(name, marks=[] if name in ("simclr", "moco") else pytest.mark.large)
        for name in DEFAULTS
    ],
)
def test_pretrain_evaluate_and_export_with(method, tmp_path):
    path = tmp_path / "run"
    status, _, err = digits("--method", method, "--epochs", 1, "--out", path)
    assert status == 0, err
    config = Run(path).config
    options = [*names.OPTIONS, "optimizer"]
    expected = {option: DEFAULTS[method].get(option) for option in options}
    assert {option: config[option] for option in options} == expected
    assert (config["policy"], config["image_count"]) == ("centred", 1437)
    words = ["--data", "digits", "--baselines", "--labels-per-class", 1, "--draws", 2]
    status, _, err = keras_ssl_command("evaluate", path, *words)
    assert status == 0, err
    rows = json.loads((path / "metrics.json").read_text())["rows"]
    assert rows["trained"] != rows["untrained"]
    status, _, err = keras_ssl_command("export", path)
    assert status == 0, err
    # An encoder to fine-tune, in batches of any size: not one that is normalised in groups.
    encoder = keras_ssl.export.load(path / "export")
    images = np.random.default_rng(0).random((7, 8, 8, 1), np.float32)
    assert encoder(images, training=True).shape == (7, 16)
    if method == "byol":
        assert Run(path).history[-1]["momentum"] == pytest.approx(0.998, abs=0.002)


def test_a_run_from_before_an_option_came(run, photos, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(run[0], old)
    config = json.loads((old / "config.json").read_text())
    later = ("momentum", "final_momentum", "queue_size", "groups", "probe", "chunks", "image_count")
    for name in later:
        del config["settings"][name]
    del config["settings"]["class_count"]
    (old / "config.json").write_text(json.dumps(config))
    words = ["--data", photos, "--labels-per-class", 1, "--draws", 2]
    status, _, err = keras_ssl_command("evaluate", old, *words)
    assert status == 0, err
    before, after = (load_backbone(Run(path)).get_weights() for path in (run[0], old))
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
    status, out, err = keras_ssl_command("pretrain", "--resume", old)
    assert status == 0, err
    assert "Done: epoch 2" in out


def test_probe(tmp_path):
    path = tmp_path / "run"
    status, out, err = digits("--probe", "--epochs", 2, "--out", path)
    assert status == 0, err
    assert "probe 0." in out
    accuracies = [line["probe"] for line in Run(path).history]
    assert 0 < accuracies[0] < accuracies[1] < 1
    assert Run(path).config["class_count"] == 10
    status, out, err = keras_ssl_command("pretrain", "--resume", path)
    assert status == 0, err
    words = ["--data", "digits", "--labels-per-class", 1, "--draws", 2]
    status, _, err = keras_ssl_command("evaluate", path, *words)
    assert status == 0, err


def test_a_run_does_not_go_on_with_other_images(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)
    np.savez(tmp_path / "few.npz", images=images, labels=np.arange(40) % 3)
    words = ["--data", tmp_path / "few.npz", "--out", tmp_path / "run"]
    common = ["--epochs", 1, "--batch-size", 8, *TINY, "--method", "memory-bank", "--probe"]
    status, _, err = keras_ssl_command("pretrain", *words, *common)
    assert status == 0, err
    config = Run(tmp_path / "run").config
    assert (config["image_count"], config["class_count"]) == (40, 3)  # they have no names
    np.savez(tmp_path / "few.npz", images=images[:30], labels=np.arange(30) % 3)
    status, _, err = keras_ssl_command("pretrain", "--resume", tmp_path / "run")
    assert status == 1
    assert "Expected: 40 images. Received: 30 in " in err


class StopAt(keras.callbacks.Callback):
    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


def digits(*words):
    common = ["--data", "digits", "--epochs", 3, "--batch-size", 500, "--knn-every", 0, *TINY]
    return keras_ssl_command("pretrain", *common, *words)


def checkpoint_values(path):
    file = np.load(checkpoints(Run(path).checkpoints)[-1][1] / "variables.npz")
    # Two models of one process have layers of different names.
    return {re.sub(r"_\d+", "", name): file[name] for name in file}


@pytest.mark.parametrize("method", ["simclr", pytest.param("moco", marks=pytest.mark.large)])
def test_resume_after_an_interruption_is_exact(method, tmp_path, monkeypatch):
    words = ["--method", method]
    if method == "moco":  # whose settings are all other than the defaults
        words += ["--momentum", 0.5, "--final-momentum", 0.9, "--queue-size", 600, "--groups", 4]
        words += ["--chunks", 2]
    assert digits("--out", tmp_path / "whole", *words)[0] == 0

    monkeypatch.setattr("keras_ssl.commands.pretrain._monitors", lambda *_: [StopAt(3)])
    status, out, _ = digits("--out", tmp_path / "stopped", *words)
    monkeypatch.undo()
    assert status == 128 + signal.SIGINT
    assert "Stopped after step 3; everything is saved." in out
    line = f"keras-ssl pretrain --resume {tmp_path / 'stopped'}\n"
    assert line in out

    status, out, err = keras_ssl_command(*line.split()[1:])
    assert status == 0, err
    whole, resumed = (checkpoint_values(tmp_path / name) for name in ("whole", "stopped"))
    assert whole.keys() == resumed.keys()
    assert any("optimizer" in name for name in whole)
    assert any("queue" in name for name in whole) == (method == "moco")
    for name, value in whole.items():
        np.testing.assert_array_equal(value, resumed[name], err_msg=name)

    # A finished run says so again, and trains no more.
    status, out, err = keras_ssl_command("pretrain", "--resume", tmp_path / "stopped")
    assert status == 0, err
    assert "Done: epoch 3" in out
    assert [line["epoch"] for line in Run(tmp_path / "stopped").history] == [1, 2, 3]


def test_resume_with_other_settings_lists_the_differences(run):
    path, _ = run
    words = ["--resume", path, "--epochs", 7, "--temperature", "0.25", "--batch-size", 8]
    status, _, err = keras_ssl_command("pretrain", *words)
    assert status == 1
    assert "epochs: 2 in the run, 7 now; temperature: 0.5 in the run, 0.25 now" in err
    assert "batch_size" not in err


BAD = {
    "no such folder": (["--data", "nowhere/at/all"], "there is no such file or folder"),
    "a folder without images": (["--data", "EMPTY"], "must hold images.* 1 *.txt"),
    "no data": ([], "--data DATA, or --resume RUN. Received: neither"),
    "a large batch": (
        ["--data", "digits", "--batch-size", 2000],
        "--batch-size must not be larger than the data set. Received: 2000, and 1437 images",
    ),
    "an unknown method": (
        ["--data", "digits", "--method", "simclear"],
        "Unknown method. Nearest: simclr.",
    ),
    "an unknown data set": (
        ["--data", "tfds:cifar01", "--data-dir", "EMPTY"],
        "nearest names: .*cifar10",
    ),
    "a misspelt data set": (["--data", "digit"], "Did you mean 'digits'"),
    "an unknown backbone": (
        ["--data", "digits", "--backbone", "resnet19"],
        "Unknown backbone. Nearest: resnet18",
    ),
    "an unknown policy": (
        ["--data", "digits", "--policy", "simclr-big"],
        "Unknown policy of views. Nearest: simclr",
    ),
    "an unknown optimizer": (
        ["--data", "digits", "--optimizer", "adamw"],
        "Unknown optimizer. Nearest: adam",
    ),
    "an unknown strategy": (
        ["--data", "digits", "--strategy", "mirorred"],
        "Did you mean 'mirrored'",
    ),
    "an unknown precision": (
        ["--data", "digits", "--precision", "mixed_float8"],
        "Unknown precision. Nearest: mixed_float16",
    ),
    "a negative temperature": (
        ["--data", "digits", "--temperature", "-1"],
        "`temperature` must be positive. Received: temperature=-1",
    ),
    "a temperature of BYOL": (
        ["--data", "digits", "--method", "byol", "--temperature", 0.1],
        "--method byol has no --temperature: that is an option of simclr, "
        "simclr-memory, moco, memory-bank",
    ),
    "a queue of SimCLR": (
        ["--data", "digits", "--queue-size", 64],
        "--method simclr has no --queue-size: that is an option of simclr-memory, moco",
    ),
    "a momentum of the memory bank": (
        ["--data", "digits", "--method", "memory-bank", "--momentum", 0.9],
        "--method memory-bank has no --momentum: that is an option of simclr-memory, moco, byol",
    ),
    "a momentum above 1": (
        ["--data", "digits", "--method", "byol", "--momentum", 1.5],
        "`momentum` must lie in .* momentum=1.5",
    ),
    "an empty queue": (
        ["--data", "digits", "--method", "moco", "--queue-size", 0],
        "--queue-size must be at least 1. Received: 0",
    ),
    "groups that do not divide the batch": (
        ["--data", "digits", "--method", "moco", "--groups", 7],
        "--groups must be 1, or divide --batch-size .*: --groups 7, --batch-size 256, 1 replicas",
    ),
    "chunks that do not divide the batch": (
        ["--data", "digits", "--chunks", 3],
        "--chunks must divide .*: --chunks 3, --batch-size 256, 1 devices",
    ),
    "groups that chunks do not share": (
        ["--data", "digits", "--method", "moco", "--groups", 2, "--chunks", 4],
        "replicas times --chunks. Received: --groups 2, --batch-size 256, 1 replicas, --chunks 4",
    ),
    "no chunks": (["--data", "digits", "--chunks", 0], "--chunks must be at least 1. Received: 0"),
    "a probe without classes": (
        ["--data", "UNLABELLED", "--probe", "--batch-size", 4],
        "--probe needs labels: .* 'UNLABELLED train', without labels",
    ),
    "a negative rate": (["--data", "digits", "--learning-rate", "-1"], "must be positive"),
    "a negative seed": (["--data", "digits", "--seed", "-1"], "--seed must lie in 0 to"),
    "no epochs": (["--data", "digits", "--epochs", 0], "--epochs must be at least 1. Received: 0"),
    "a negative warm-up": (["--data", "digits", "--warmup-epochs", "-1"], "must not be negative"),
    "two channels": (["--data", "EMPTY", "--channels", 2], "`channels` must be 1 or 3"),
    "a kNN accuracy without labels": (
        ["--data", "digits", "--knn-data", "UNLABELLED"],
        "Evaluation needs labels.",
    ),
    "a kNN accuracy of what is not there": (
        ["--data", "digits", "--knn-data", "nowhere"],
        "there is no such file or folder",
    ),
    "no run to resume": (["--resume", "EMPTY"], "A run directory holds config.json"),
    "a run of another program": (["--resume", "OTHER"], "must be one of `keras-ssl`"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_leaves_one_message_and_no_run(name, tmp_path, monkeypatch):
    words, message = BAD[name]
    monkeypatch.chdir(tmp_path)
    pathlib.Path("EMPTY").mkdir()
    pathlib.Path("EMPTY", "notes.txt").touch()
    np.savez("UNLABELLED", images=np.zeros((10, 8, 8, 1), np.uint8))
    pathlib.Path("UNLABELLED.npz").rename("UNLABELLED")
    Run.create("OTHER", {"epochs": 3})
    before = sorted(tmp_path.rglob("*"))
    small = TINY if "--backbone" not in words and "--resume" not in words else []
    status, out, err = keras_ssl_command("pretrain", *words, *small)
    assert status == 1
    assert err.startswith("keras-ssl: error: ")
    assert re.search(message.replace("*.txt", r"\*\.txt"), err), err
    assert err.count("\n") == 2  # the message, and where to see more
    assert "Traceback" not in out + err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "EMPTY", "--data", "digits"], "EMPTY"),
        (["evaluate", "RUN", "--data", "nowhere"], "there is no such file or folder"),
        (["evaluate", "OTHER", "--data", "digits"], "must be one of `keras-ssl`"),
        (["evaluate", "EMPTY", "--data", "digits", "--baselines"], "--baselines needs a run"),
        (["export", "EMPTY"], "A run directory holds config.json"),
        (["export", "NEW"], "must have a checkpoint"),
        (["demo", "--epochs", "0", "--out", "made"], "--epochs must be at least 1"),
        (["demo", "--epochs", "1", "--out", "EMPTY"], "A run needs a new directory"),
    ],
)
def test_bad_input_of_other_commands(words, message, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, _ = run
    pathlib.Path("EMPTY").mkdir()
    pathlib.Path("EMPTY", "notes.txt").touch()
    Run.create("OTHER", {"epochs": 3})
    Run.create("NEW", Run(path).config)
    before = sorted(tmp_path.rglob("*"))
    status, _, err = keras_ssl_command(*[path if word == "RUN" else word for word in words])
    assert status == 1
    assert message in err
    assert err.count("\n") == 2
    assert sorted(tmp_path.rglob("*")) == before


def test_a_traceback_can_be_asked_for(monkeypatch):
    monkeypatch.setenv("KERAS_SSL_TRACEBACK", "1")
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        cli.main(["pretrain", "--data", "nowhere"])


def test_ctrl_c_before_the_training(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("keras_ssl.commands.pretrain.run", interrupt)
    status, _, err = keras_ssl_command("pretrain", "--data", "digits")
    assert status == 130
    assert "stopped" in err


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "run"
    status, out, err = keras_ssl_command("demo", "--epochs", 2, "--out", path)
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


def test_the_demos_three_lines_run(demo):
    _, out = demo
    lines = out[out.index("import keras_ssl") :].strip()
    assert len(lines.splitlines()) == 3
    found = {"images": np.zeros((5, 8, 8, 1), np.float32)}
    exec(lines, found)
    assert isinstance(found["encoder"], keras.Model)
    assert found["features"].shape == (5, found["encoder"].output_shape[-1])


def test_a_demos_run_is_a_run_like_others(demo):
    path, _ = demo
    before = json.loads((path / "metrics.json").read_text())["rows"]
    status, _, err = keras_ssl_command("evaluate", path, "--data", "digits", "--draws", 2)
    assert status == 0, err
    after = json.loads((path / "metrics.json").read_text())["rows"]
    assert after["trained"]["knn"]["accuracy"] == before["trained"]["knn"]["accuracy"]


@pytest.mark.large
def test_an_interrupted_demo_can_go_on(tmp_path, monkeypatch):
    import keras_ssl.commands.demo

    def interrupted(*arguments, **settings):
        return original(*arguments, **settings, callbacks=[StopAt(3)])

    original = keras_ssl.commands.demo.pretrain
    monkeypatch.setattr(keras_ssl.commands.demo, "pretrain", interrupted)
    path = tmp_path / "run"
    status, out, _ = keras_ssl_command("demo", "--epochs", 1, "--out", path)
    assert status == 130
    assert "Stopped after step 3" in out
    status, out, err = keras_ssl_command("pretrain", "--resume", path)
    assert status == 0, err
    assert checkpoints(Run(path).checkpoints)[-1][0] == 5


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        cwd=pathlib.Path(keras_ssl.__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=120,
    )


HELP = """
import sys
from keras_ssl.cli import main
try:
    main({words})
finally:
    assert not {{"tensorflow", "keras", "sklearn"}} & set(sys.modules), "imported for --help"
"""


@pytest.mark.parametrize("command", ["", "pretrain", "evaluate", "export", "demo"])
def test_help_is_quick_and_names_every_option(command):
    words = [command, "--help"] if command else ["--help"]
    done = python(HELP.format(words=words), COLUMNS="100")
    assert done.returncode == 0, done.stderr
    if not command:
        assert all(name in done.stdout for name in ("pretrain", "evaluate", "export", "demo"))
        return
    settings = getattr(cli, command.capitalize())
    for name in settings.__dataclass_fields__:
        if (command, name) != ("evaluate", "run") and (command, name) != ("export", "run"):
            assert f"--{name.replace('_', '-')}" in done.stdout


def test_an_unknown_option_is_an_error():
    status, _, err = keras_ssl_command("pretrain", "--data", "digits", "--temprature", "1")
    assert status == 2
    assert "temprature" in err


# A Keras that is already imported with another backend; JAX itself need not be installed.
FAKE = """
import sys, types
config = types.SimpleNamespace(backend=lambda: "jax")
sys.modules["keras"] = types.SimpleNamespace(config=config)
"""


@pytest.mark.parametrize(
    ("backend", "code"),
    [
        ("jax", "import keras_ssl"),
        ("jax", FAKE + "import keras_ssl"),
        ("torch", "from keras_ssl.cli import main; main(['--help'])"),
    ],
)
def test_another_backend_of_keras_is_refused(backend, code):
    done = python(code, KERAS_BACKEND="tensorflow" if FAKE in code else backend)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        "ImportError: keras_ssl runs with Keras' TensorFlow backend only. Expected: "
        f"KERAS_BACKEND=tensorflow, set before Keras is imported. Received: backend={backend!r}"
    )
