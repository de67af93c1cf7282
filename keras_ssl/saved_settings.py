"""The settings of a command, read from the config.json of its run and compared with new ones."""

import pathlib
import typing
from collections.abc import Collection
from dataclasses import fields
from typing import Any, TypeVar

from keras_ssl.run import Run

# What a run may change each time that it is started: devices decide nothing but the time it takes.
OF_A_START = ("resume", "strategy")

Settings = TypeVar("Settings")


def saved_settings(
    run: Run, kind: type[Settings], wanted: str, optional: Collection[str] = ()
) -> Settings:
    """Returns the settings that a run began with.

    Args:
        run: its directory.
        kind: dataclass of the command's settings.
        wanted: beginning of the message if they are not there: what the run should be.
        optional: settings that came later: a run from before has their defaults.

    Raises:
        FileNotFoundError: if this is no run directory.
        ValueError: if its config.json does not have the command's settings.
    """
    config = run.config
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    if missing := sorted({*known}.difference(optional, config)):
        raise ValueError(
            f"{wanted} Received: {str(run.path)!r}, without the settings {', '.join(missing)}"
        )
    types = typing.get_type_hints(kind)
    return kind(**{name: _read(config[name], types[name]) for name in known if name in config})


def refuse_others(settings: Settings, command: Settings):
    """Refuses to go on with a run by a command that says otherwise.

    Args:
        settings: of the run.
        command: what the user says now; a default is no word.

    Raises:
        ValueError: if they differ.
    """
    defaults = type(command)()
    differences = []
    for name in (field.name for field in fields(command)):  # type: ignore[arg-type]
        old, new = getattr(settings, name), getattr(command, name)
        if name not in OF_A_START and new not in (old, getattr(defaults, name)):
            differences.append(f"{name}: {old!r} in the run, {new!r} now")
    if differences:
        raise ValueError(
            "A run goes on with its own settings. Expected: --resume alone, or the same settings. "
            f"Received: {'; '.join(differences)}"
        )


def _read(value: Any, declared: Any) -> Any:
    """Returns a setting as the command has it: JSON knows neither paths nor tuples."""
    if value is not None and pathlib.Path in (declared, *typing.get_args(declared)):
        return pathlib.Path(value)
    return tuple(value) if isinstance(value, list) else value
