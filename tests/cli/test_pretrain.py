"""`keras-ssl pretrain`, `evaluate` and `export`, from images to an encoder."""

import json
import re

import numpy as np
import pytest

import keras_ssl
from keras_ssl.callbacks.checkpoint_files import checkpoints
from keras_ssl.presets import PRESETS
from keras_ssl.runs.directory import Run
from tests.command_line import TINY, call, pretrain_digits
from tests.tiers import rest_large


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
    status, out, err = call("evaluate", path, *words)
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
    status, out, err = call("export", path)
    assert status == 0, err
    lines = out[out.index("import keras_ssl") :]
    images = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
    found = {"images": images}
    exec(lines, found)
    expected = Run(path).encoder()(images)
    np.testing.assert_allclose(found["features"], expected, atol=1e-5)

    # An export is evaluated like a run, and so is one that lies elsewhere.
    status, out, err = call("export", path, "--out", tmp_path / "elsewhere")
    assert status == 0, err
    words = ["--data", photos, "--labels-per-class", 1, "--draws", 2]
    status, out, err = call("evaluate", tmp_path / "elsewhere", *words)
    assert status == 0, err
    assert "trained" in out


@pytest.mark.large
@pytest.mark.parametrize("kind", rest_large(["flat folder", "npz", "digits"]))
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
    status, _, err = call(
        "pretrain", "--data", data, "--out", path, "--epochs", 1, "--batch-size", 8, *TINY, *words
    )
    assert status == 0, err
    config = Run(path).config
    expected = {"digits": (8, 1, "centred"), "npz": (10, 4, "simclr-small")}
    expected["flat folder"] = (12, 1, "simclr-small")
    found = (config["image_size"], config["image_channels"], config["policy"])
    assert found == expected[kind]
    if kind == "digits":  # has labels of its own for both
        status, _, err = call(
            "evaluate", path, "--data", "digits", "--labels-per-class", 1, "--draws", 2
        )
        assert status == 0, err
        assert json.loads((path / "metrics.json").read_text())["data"] == "digits"
    else:
        check_that_unlabeled_images_are_refused(path, data)


def check_that_unlabeled_images_are_refused(path, data):
    status, _, err = call("evaluate", path, "--data", data)
    assert status == 1
    assert "Evaluation needs labels. Expected: class sub-folders, a .csv file" in err
    assert not (path / "metrics.json").exists()


def test_evaluate_holds_images_out_if_there_are_no_test_images(run, photos):
    path, _ = run
    words = ["--data", photos / "val", "--labels-per-class", 1, "--draws", 2]
    status, out, err = call("evaluate", path, *words)
    assert status == 0, err
    assert "No separate test images: 4 of the images were held out." in out


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
    "deep-cluster": {"clusters": 3000, "clusterings": 3, "temperature": 0.1, "embedding": 8},
    "invariant-spreading": {
        "temperature": 0.1,
        "spread_weight": 1.0,
        "embedding": 8,
        "optimizer": "sgd",
    },
    "exemplar": {"optimizer": "sgd"},
    "denoising-autoencoder": {"noise": "masking", "amount": 0.25, "filters": None},
    "context-encoder": {"region": "random", "filters": None, "optimizer": "adam"},
    "adversarial-context-encoder": {"region": "random", "adversarial_weight": 0.001},
    "cpc": {"predictions": 5, "context_units": None},
    "rotation": {"optimizer": "sgd"},
    "colorization": {"hidden_units": 256, "rebalance": True, "optimizer": "adam"},
    "split-brain": {"hidden_units": 256, "lightness_bins": 50, "optimizer": "adam"},
    "cmc": {"temperature": 0.07, "embedding": 8, "optimizer": "sgd"},
    "relative-location": {"tile_share": 0.75, "gray": 0.66, "hidden_units": 4096},
    "jigsaw": {"tile_share": 0.75, "gray": 0.66, "permutations": 504},
    "pirl": {"tile_share": 0.75, "temperature": 0.07, "embedding": 128},
    "video-colorization": {"temperature": 1.0, "colors": 16, "frame_rate": 6.0},
}


def test_every_method_has_its_defaults_here():
    assert list(DEFAULTS) == list(PRESETS)


@pytest.mark.parametrize(
    "method",
    # tests/cli/test_color.py trains the methods that need images in color, tests/presets/test_tiles.py
    # those that need larger images, and tests/cli/test_video.py the one that needs videos.
    [
        pytest.param(name, marks=pytest.mark.large)
        for name in DEFAULTS
        if name not in ("colorization", "split-brain", "cmc", "relative-location", "jigsaw", "pirl")
        and name != "video-colorization"
    ],
)
def test_pretrain_evaluate_and_export_with(method, tmp_path):
    path = tmp_path / "run"
    network = TINY if "embedding" in PRESETS[method].options() else TINY[:-2]
    common = ["--data", "digits", "--batch-size", 500, "--knn-every", 0, *network]
    status, _, err = call("pretrain", *common, "--method", method, "--epochs", 1, "--out", path)
    assert status == 0, err
    config = Run(path).config
    assert {option: config[option] for option in DEFAULTS[method]} == DEFAULTS[method]
    others = {option for preset in PRESETS.values() for option in preset.options()}
    assert not config.keys() & (others - set(PRESETS[method].options()))
    assert (config["policy"], config["image_count"]) == ("centred", 1437)
    words = ["--data", "digits", "--baselines", "--labels-per-class", 1, "--draws", 2]
    status, _, err = call("evaluate", path, *words)
    assert status == 0, err
    rows = json.loads((path / "metrics.json").read_text())["rows"]
    assert rows["trained"] != rows["untrained"]
    status, _, err = call("export", path)
    assert status == 0, err
    # An encoder to fine-tune, in batches of any size: not one that is normalized in groups.
    encoder = keras_ssl.export.load(path / "export")
    images = np.random.default_rng(0).random((7, 8, 8, 1), np.float32)
    assert encoder(images, training=True).shape == (7, 16)
    if method == "byol":
        assert Run(path).history[-1]["momentum"] == pytest.approx(0.998, abs=0.002)


def test_probe(tmp_path):
    path = tmp_path / "run"
    status, out, err = pretrain_digits("--probe", "--epochs", 2, "--out", path)
    assert status == 0, err
    assert "probe 0." in out
    accuracies = [line["probe"] for line in Run(path).history]
    assert 0 < accuracies[0] < accuracies[1] < 1
    assert Run(path).config["class_count"] == 10
    status, out, err = call("pretrain", "--resume", path)
    assert status == 0, err
    assert Run(path).encoder().output_shape == (None, 16)  # without the probe
