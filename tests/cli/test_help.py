"""`--help`, and the backend of Keras."""

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


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        cwd=pathlib.Path(keras_ssl.__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=120,
    )


# Shows the help of each command line in a process that must not import what is slow to import. What an
# older tyro imports itself is not counted.
HELP = """
import sys
import tyro
slow = {{"rich", "typeguard", "asyncio", "unittest.mock", "multiprocessing", "importlib.metadata"}}
slow -= set(sys.modules)
slow |= {{"tensorflow", "keras", "numpy", "sklearn", "matplotlib", "PIL"}}
from keras_ssl.cli import main
for words in {lines}:
    try:
        main([*words, "--help"])
    except SystemExit as stop:
        assert not stop.code
    assert not slow & set(sys.modules), (words, slow & set(sys.modules))
"""


def show_help(*lines):
    done = python(HELP.format(lines=lines), COLUMNS="100")
    assert done.returncode == 0, done.stderr
    return done.stdout


def parse_help(capsys, *words):
    """Returns the help of a command in one line, without the frame around it."""
    with pytest.raises(SystemExit):
        parse([*words, "--help"])
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


def shows(option, text):
    """Returns whether a help text explains an option; flags have a second form."""
    return re.search(rf"--{option.replace('_', '-')}[ ,]", text) is not None


def test_help_lists_the_commands_without_tensorflow():
    text = show_help([])
    assert all(f"• {name} " in text for name in COMMANDS)


def test_no_help_imports_slow_packages():
    show_help(*([name] for name in COMMANDS), ["pretrain", "--method", "byol"])


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "pretrain"])
def test_help_names_every_option(command, capsys):
    text = parse_help(capsys, command)
    for field in fields(COMMANDS[command]):
        if "Positional" in str(field.type):
            assert "positional arguments" in text
        else:
            assert shows(field.name, text), field.name


def test_help_lists_the_methods_and_the_options_of_the_default(capsys):
    text = parse_help(capsys, "pretrain")
    for name, preset in PRESETS.items():
        line = str(preset.__doc__).splitlines()[0]
        assert f"- {name}: {line}" in text
    for option in (*PRESETS["simclr"].options(), "data", "resume", "recipe", "method"):
        assert shows(option, text), option
    assert not shows("queue_size", text)


@pytest.mark.parametrize("method", PRESETS)
def test_help_shows_the_options_of_one_method_with_its_defaults(method, capsys):
    preset = find_preset(method)
    text = parse_help(capsys, "pretrain", "--method", method)
    for option in preset.options():
        default = getattr(preset(), option)
        if isinstance(default, bool):
            assert shows(option, text), option
        else:
            # The name, the type, the explanation, and the default, before the next option.
            explanation = r"(?:(?! --[a-z-]+ [A-Z{]).)*"
            found = rf"--{option.replace('_', '-')} {explanation}\(default: {default}\)"
            assert re.search(found, text), option
    others = {option for other in PRESETS.values() for option in other.options()}
    for option in others - set(preset.options()):
        assert not shows(option, text), option


def test_help_of_byol_has_no_option_of_another_method(capsys):
    text = parse_help(capsys, "pretrain", "--method", "byol")
    assert "(default: 0.996)" in text
    assert "(default: 4096)" in text
    for option in ("queue_size", "groups", "temperature", "symmetric", "head_layers"):
        assert not shows(option, text), option


def test_help_of_a_recipe_shows_its_settings_as_defaults(capsys):
    text = parse_help(capsys, "pretrain", "--recipe", "byol_cifar10_cpu")
    assert "(default: small-resnet)" in text
    assert "(default: 0.95)" in text


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
