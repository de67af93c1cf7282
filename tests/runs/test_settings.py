"""The settings of runs: `config.json` of this and earlier versions; changes on resume."""

import json
import pathlib
import re
import shutil

import numpy as np
import pytest

import keras_ssl
from keras_ssl.callbacks.checkpoint_files import checkpoints
from keras_ssl.cli.distill import Distill
from keras_ssl.cli.simclrv2 import SimCLRv2
from keras_ssl.presets import BYOL, ImageFacts, MoCo, SimCLR
from keras_ssl.runs.settings import (
    PretrainSettings,
    check_unchanged,
    read_pretrain_settings,
    read_settings,
)

HERE = pathlib.Path(__file__).parent
# Written by real runs of earlier versions, with neutral paths.
OLD_CONFIGS = {path.stem: path for path in sorted((HERE / "old_configs").glob("*.json"))}
DIGITS = ImageFacts(image_channels=1, image_count=1437)


def config(name):
    return json.loads(OLD_CONFIGS[name].read_text())["settings"]


def read(name):
    return read_pretrain_settings(config(name), OLD_CONFIGS[name])


@pytest.mark.parametrize(
    ("name", "method", "options"),
    [
        ("first-command-line", "simclr", {"temperature": 0.5, "embedding": 128, "chunks": 1}),
        ("first-methods", "simclr", {"head_layers": 2, "views_on": "host", "optimizer": "lars"}),
        ("first-chunks", "simclr", {"head_layers": 2, "policy": "centred", "image_size": 8}),
        ("simclr", "simclr", {"embedding": 8, "epochs": 3, "batch_size": 256}),
        (
            "simclr-memory",
            "simclr-memory",
            {"queue_size": 718, "head_layers": 3, "momentum": 0.999, "final_momentum": 0.999},
        ),
        ("moco", "moco", {"queue_size": 718, "groups": 8, "symmetric": False}),
        (
            "moco-options",
            "moco",
            {"queue_size": 100, "groups": 4, "momentum": 0.9, "final_momentum": 0.9, "probe": True},
        ),
        ("byol", "byol", {"momentum": 0.996, "final_momentum": 1.0, "hidden_units": 4096}),
        ("memory-bank", "memory-bank", {"temperature": 0.07, "optimizer": "sgd"}),
        ("demo", "simclr", {"optimizer": "adam", "learning_rate": 0.005, "width": 2.0}),
    ],
)
def test_configs_of_earlier_versions_are_read(name, method, options):
    settings, images = read(name)
    preset = settings.preset
    assert preset.method == method
    assert {option: getattr(preset, option) for option in options} == options
    assert settings.data == "digits"
    assert settings.knn_every == 0
    assert images.image_channels == 1
    assert images.image_count == (0 if name == "first-command-line" else 1437)
    # It builds, although it lacks options that are newer.
    complete = preset.resolve(images)
    model = complete.build_model(complete.build_backbone(images), images)
    assert model.backbone.input_shape == (None, 8, 8, 1)


@pytest.mark.parametrize("name", ["digits-simclr", "cifar10-simclr"])
def test_recipes_of_the_zoo_are_configs_of_runs(name):
    path = HERE.parents[1] / "saved_models" / name / "recipe.json"
    recorded = json.loads(path.read_text())
    settings, images = read_pretrain_settings(recorded, path)
    written = settings.to_config(images)
    for option, value in recorded.items():
        if value is not None and option in written:
            assert written[option] == value, option


def test_a_config_is_read_as_it_was_written():
    preset = BYOL(epochs=3, momentum=0.9, probe=True).resolve(DIGITS, sides=(8, 8))
    settings = PretrainSettings(
        data="photos", data_dir=pathlib.Path("data"), knn_every=2, verify=False, preset=preset
    )
    images = ImageFacts(3, 64, 5)
    written = json.loads(json.dumps(settings.to_config(images), default=str))
    assert written["method"] == "byol"
    assert "queue_size" not in written
    assert read_pretrain_settings(written, HERE) == (settings, images)


def test_runs_of_other_programs_are_refused():
    with pytest.raises(ValueError, match=r"must be one of `keras-ssl pretrain`.*Received: 'other'"):
        read_pretrain_settings({"epochs": 3}, pathlib.Path("other"))
    with pytest.raises(ValueError, match=r"without the settings .*method"):
        read("distill")


def test_configs_of_other_commands_are_read():
    path = OLD_CONFIGS["distill"]
    required = ("teacher", "temperature")
    saved = read_settings(Distill, config("distill"), path, required, "A distillation.")
    assert saved.teacher == pathlib.Path("runs/finetune")
    assert (saved.temperature, saved.epochs, saved.student) == (0.1, 2, None)
    path = OLD_CONFIGS["simclrv2"]
    saved = read_settings(SimCLRv2, config("simclrv2"), path, ("labels",), "A SimCLRv2 run.")
    assert saved.labels == (0.05,)
    assert saved.queue_size == 0  # newer than the run
    with pytest.raises(ValueError, match=r"A distillation\. Received: .*without .* teacher"):
        read_settings(Distill, config("simclrv2"), path, required, "A distillation.")


def test_changed_settings_are_listed():
    saved = PretrainSettings(preset=MoCo(epochs=3, queue_size=100)).flat()
    defaults = PretrainSettings(preset=MoCo()).flat()
    given = PretrainSettings(preset=MoCo(epochs=7, queue_size=9), strategy="none").flat()
    message = "epochs: 3 in the run, 7 now; queue_size: 100 in the run, 9 now"
    with pytest.raises(ValueError, match=message):
        check_unchanged(saved, given, defaults)
    check_unchanged(saved, defaults, defaults)
    check_unchanged(saved, {**defaults, "strategy": "mirrored", "precision": "auto"}, defaults)


def test_another_method_is_a_changed_setting():
    saved = PretrainSettings(preset=MoCo()).flat()
    given = PretrainSettings(preset=BYOL()).flat()
    defaults = {**given, "method": SimCLR.method}
    with pytest.raises(ValueError, match="method: 'moco' in the run, 'byol' now"):
        check_unchanged(saved, given, defaults)


def test_a_run_of_an_earlier_version_resumes_exactly(tmp_path, monkeypatch):
    # It was stopped after step 6 of 12, in the middle of an epoch. final.npz is what the version that
    # started it reaches.
    shutil.copytree(HERE / "old_run", tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    run = keras_ssl.pretrain(resume="run")
    assert [line["epoch"] for line in run.history] == [1, 2, 3]
    step, path = checkpoints(run.checkpoints)[-1]
    assert step == 12
    found, expected = (
        {number_free(name): value for name, value in np.load(file).items()}
        for file in (path / "variables.npz", "final.npz")
    )
    assert found.keys() == expected.keys()
    for name in expected:
        # Processors differ in the last digits.
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-3, atol=1e-4, err_msg=name)


def number_free(name):
    """Returns a variable's name without the numbers that Keras counts up in a process."""
    return re.sub(r"_\d+", "", name)
