"""`--help`, unknown options, and the backend of Keras."""

import os
import pathlib
import re
import subprocess
import sys
from dataclasses import fields

import pytest

import keras_ssl
from keras_ssl.cli.program import COMMANDS, parse
from keras_ssl.presets import PRESETS, find_preset
from tests.command_line import call


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


def shows(option, text):
    """Returns whether a help text explains an option; flags have a second form."""
    return re.search(rf"--{option.replace('_', '-')}[ ,]", text) is not None


def show_help(*words):
    """Returns the help of a command, printed by a process that must not import TensorFlow."""
    done = python(HELP.format(words=[*words, "--help"]), COLUMNS="100")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_lists_the_commands():
    text = show_help()
    assert all(f"• {name} " in text for name in COMMANDS)


@pytest.mark.parametrize("command", ["evaluate", "export", "demo", "finetune"])
def test_help_names_every_option(command, capsys):
    with pytest.raises(SystemExit):
        parse([command, "--help"])
    text = capsys.readouterr().out
    for field in fields(COMMANDS[command]):
        if field.name != "run":
            assert shows(field.name, text)


def test_help_lists_the_methods_and_the_options_of_the_default():
    text = show_help("pretrain")
    for name, preset in PRESETS.items():
        line = str(preset.__doc__).splitlines()[0]
        assert f"- {name}: {line}"[:60] in text
    for option in (*PRESETS["simclr"].options(), "data", "resume", "recipe", "method"):
        assert shows(option, text)
    assert "--queue-size" not in text


@pytest.mark.parametrize("method", ["byol", "MoCo", "simclr_memory"])
def test_help_shows_the_options_of_one_method(method, capsys):
    preset = find_preset(method)
    with pytest.raises(SystemExit):
        parse(["pretrain", "--method", method, "--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for option in preset.options():
        assert shows(option, text)
    others = {option for other in PRESETS.values() for option in other.options()}
    for option in others - set(preset.options()):
        assert not shows(option, text)
    assert f"(default: {preset().momentum})" in text


def test_the_method_is_that_of_the_run_to_resume(tmp_path):
    (tmp_path / "config.json").write_text('{"settings": {"method": "byol"}}')
    for words in (["--resume", str(tmp_path)], [f"--resume={tmp_path}"]):
        command = parse(["pretrain", *words, "--hidden-units", "64"])
        assert (command.method, command.preset.hidden_units) == ("byol", 64)
    command = parse(["pretrain", "--resume", str(tmp_path), "--method", "moco"])
    assert command.preset.method == "moco"


def test_an_unknown_option_is_an_error():
    status, _, err = call("pretrain", "--data", "digits", "--temprature", "1")
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
