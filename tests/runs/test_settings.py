"""The settings of runs: `config.json` of this and earlier versions; changes on resume."""

import json
import pathlib
import re
import shutil
from dataclasses import asdict, fields

import numpy as np
import pytest

import keras_ssl
from keras_ssl.callbacks.checkpoint_files import checkpoints
from keras_ssl.cli.distill import Distill
from keras_ssl.cli.finetune import Finetune
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


def zoo_recipe(name):
    path = HERE.parents[1] / "saved_models" / name / "recipe.json"
    return json.loads(path.read_text()), path


def read(name):
    return read_pretrain_settings(config(name), OLD_CONFIGS[name])


# Tensors and numbers in the checkpoint that each run wrote, without those of the optimizer.
CHECKPOINTS = {
    "first-command-line": (24, 4340),
    "first-simclr": (24, 4340),
    "first-moco": (40, 99977),
    "first-byol": (51, 4389992),
    "first-memory-bank": (19, 187701),
    "first-chunks": (24, 4340),
    "simclr": (24, 2060),
    "simclr-memory": (60, 10505),
    "moco": (40, 9737),
    "moco-options": (44, 21075),
    "byol": (51, 326760),
    "memory-bank": (19, 13221),
    "demo": (24, 127008),
}
OTHER_COMMANDS = ["distill", "finetune", "simclrv2"]


def test_every_old_config_is_tested():
    assert sorted([*CHECKPOINTS, *OTHER_COMMANDS]) == sorted(OLD_CONFIGS)


def assert_as_recorded(recorded, settings, images):
    """Compares settings with a `config.json`, in which `None` stands for an unused option."""
    written = settings.to_config(images)
    unused = {"out", "resume"}  # of the command line, no settings of the run
    for option, value in recorded.items():
        if value is not None and option not in unused:
            assert written[option] == value, option


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_configs_of_earlier_versions_are_read(name):
    settings, images = read(name)
    assert_as_recorded(config(name), settings, images)
    # The network is that of the run, although options that are newer are missing.
    complete = settings.preset.resolve(images)
    model = complete.build_model(complete.build_backbone(images), images)
    assert (len(model.weights), model.count_params()) == CHECKPOINTS[name]
    assert model.backbone.input_shape == (None, 8, 8, 1)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("first-command-line", {"head_layers": 2, "views_on": "host", "chunks": 1, "probe": False}),
        ("first-simclr", {"head_layers": 2, "scaling": "none"}),
        ("first-moco", {"symmetric": False, "chunks": 1}),
        ("first-byol", {"hidden_units": 4096}),
        ("demo", {"head_layers": 2, "weight_decay": None}),
        ("moco", {"symmetric": False, "scaling": "none", "learning_rate": None}),
        ("simclr", {"optimizer": "lars", "input_scale": 1.0}),
    ],
)
def test_missing_options_have_the_values_of_their_time(name, options):
    preset = read(name)[0].preset
    assert {option: getattr(preset, option) for option in options} == options


def test_a_config_without_the_number_of_images():
    assert read("first-command-line")[1] == ImageFacts(image_channels=1)
    assert read("first-simclr")[1] == DIGITS


@pytest.mark.parametrize("name", ["digits-simclr", "cifar10-simclr"])
def test_recipes_of_the_zoo_are_configs_of_runs(name):
    recorded, path = zoo_recipe(name)
    settings, images = read_pretrain_settings(recorded, path)
    assert_as_recorded(recorded, settings, images)
    model = settings.preset.build_model(settings.preset.build_backbone(images), images)
    side = recorded["image_size"]
    assert model.backbone.input_shape == (None, side, side, recorded["image_channels"])


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


@pytest.mark.parametrize(
    ("kind", "recorded"),
    [
        (Distill, config("distill")),
        (Distill, zoo_recipe("cifar10-student")[0]),
        (Finetune, config("finetune")),
        (SimCLRv2, config("simclrv2")),
    ],
)
def test_configs_of_other_commands_are_read(kind, recorded):
    settings = read_settings(kind, recorded, HERE, ("data",), "Any run.")
    written = json.loads(json.dumps(asdict(settings), default=str))
    assert written == {**written, **recorded}
    for option in written.keys() - recorded.keys():  # newer than the run
        default = {field.name: field.default for field in fields(kind)}[option]
        default = {"input_scale": 1.0}.get(option, default)  # as before
        assert getattr(settings, option) == default


def test_paths_and_lists_are_read_as_paths_and_tuples():
    assert read_settings(Distill, config("distill"), HERE, (), "").teacher == pathlib.Path(
        "runs/finetune"
    )
    assert read_settings(SimCLRv2, config("simclrv2"), HERE, (), "").labels == (0.05,)


def test_a_config_of_another_command_is_refused():
    required = ("teacher", "temperature")
    with pytest.raises(ValueError, match=r"A distillation\. Received: 'here', without .* teacher"):
        read_settings(
            Distill, config("simclrv2"), pathlib.Path("here"), required, "A distillation."
        )


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
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-4, err_msg=name)


def number_free(name):
    """Returns a variable's name without the numbers that Keras counts up in a process."""
    return re.sub(r"_\d+", "", name)
