"""Presets that are defined outside of the package, and the runs that they trained."""

import json
import subprocess
import sys
from dataclasses import dataclass

import pytest

import keras_ssl
from keras_ssl import presets
from keras_ssl.presets.own_presets import class_path, find_own_preset

MODULE = '''
from dataclasses import dataclass

from keras_ssl.presets import SimCLR


@dataclass(frozen=True)
class Mine(SimCLR):
    """SimCLR under another name. Source: the tests."""

    method = "{method}"
    large_policy = small_policy = "centred"

    sharpness: int = 3
    """An option of its own."""
'''


@dataclass(frozen=True)
class Own(presets.SimCLR):
    method = "own-method"

    sharpness: int = 3


@dataclass(frozen=True)
class SameName(presets.SimCLR):
    """A class of one's own for a method of the package."""


SMALL = {"epochs": 1, "batch_size": 700, "backbone": "tiny", "width": 0.25, "embedding": 8}
SMALL |= {"knn_every": 0}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    preset = Own(sharpness=4)
    return keras_ssl.pretrain("digits", preset, tmp_path_factory.mktemp("own") / "run", **SMALL)


def test_the_run_knows_its_preset(run):
    assert run.preset is Own
    assert run.config["preset_class"] == class_path(Own)
    settings, _ = run.pretrain_settings
    assert type(settings.preset) is Own
    assert settings.preset.sharpness == 4
    assert run.encoder().output_shape[-1] == run.method().backbone.output_shape[-1]
    assert run.export().is_dir()


@pytest.mark.parametrize("method", [Own(sharpness=4, epochs=1), "own-method", "simclr"])
def test_it_resumes(run, method):
    again = keras_ssl.pretrain(method=method, resume=run.path)
    assert again.history == run.history
    assert keras_ssl.Run(run.path).pretrain_settings[0].preset.sharpness == 4


def test_other_options_are_refused(run):
    with pytest.raises(ValueError, match="sharpness: 4 in the run, 5 now"):
        keras_ssl.pretrain(method=Own(sharpness=5), resume=run.path)


def test_another_process_must_define_the_preset(run, tmp_path):
    """One process without the class, then with it as an argument and by definition."""
    (tmp_path / "my_presets.py").write_text(MODULE.format(method="own-method"))
    code = """
import json, pathlib, sys
import keras_ssl
from keras_ssl.cli.pretrain import Pretrain, with_options_of_method
from keras_ssl.runs.settings import read_pretrain_settings
path = pathlib.Path(sys.argv[1])
config = json.loads((path / "config.json").read_text())["settings"]
config["preset_class"] = "__main__.Mine"  # it was in a notebook
for call in (
    lambda: read_pretrain_settings(config, path),
    lambda: with_options_of_method(["--resume", sys.argv[1]], Pretrain()),
):
    try:
        call()
    except ValueError as error:
        print(error)
from my_presets import Mine
print(read_pretrain_settings(config, path)[0].preset)
print(read_pretrain_settings(config, path, Mine)[0].preset)
"""
    out = subprocess.run(
        [sys.executable, "-c", code, str(run.path)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{tmp_path}:.", "PATH": ""},
        check=True,
    ).stdout.splitlines()
    assert len(out) == 4
    for line in out[:2]:
        assert "method 'own-method' is not one of keras_ssl (simclr, " in line
        assert "keras_ssl.Run(path, preset=...)" in line
    assert out[0].endswith("with the preset __main__.Mine")
    assert all(line.startswith("Mine(") and "sharpness=4" in line for line in out[2:])


def test_a_class_of_ones_own_for_a_method_of_the_package(run, tmp_path):
    """The package's class of that method would build another network."""
    other = keras_ssl.Run.create(
        tmp_path / "run",
        {**run.config, "method": "simclr", "preset_class": class_path(SameName)},
    )
    assert type(other.pretrain_settings[0].preset) is SameName
    del other
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["settings"]["preset_class"] = "elsewhere.Unknown"
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"with the preset elsewhere\.Unknown"):
        _ = keras_ssl.Run(tmp_path / "run").pretrain_settings


def test_wrong_presets(run):
    with pytest.raises(ValueError, match=r"Expected: the one of 'own-method'.*SimCLR of 'simclr'"):
        _ = keras_ssl.Run(run.path, preset=presets.SimCLR).pretrain_settings
    for wrong in (Own(), "own-method"):
        with pytest.raises(TypeError, match="`preset` must be a subclass"):
            keras_ssl.Run(run.path, preset=wrong)
    with pytest.raises(TypeError, match="`method` must be the name of a method"):
        keras_ssl.pretrain("digits", Own)


def test_the_newest_definition_counts():
    first = type("Again", (presets.SimCLR,), {"method": "again", "__module__": "__main__"})
    second = type("Again", (presets.SimCLR,), {"method": "again", "__module__": "__main__"})
    assert find_own_preset("again") is find_own_preset("again", "__main__.Again") is second
    assert first is not second
    assert presets.find_preset("again") is second
    assert presets.find_preset("simclr") is presets.SimCLR
