"""Finds the preset class of a run, which may be defined outside of this package."""

import pathlib
from collections.abc import Mapping
from typing import Any

from keras_ssl.presets import (
    PRESETS,
    Preset,
    class_path,
    find_own_preset,
    find_preset,
    is_of_package,
)

PRESET_CLASS = "preset_class"  # in `config.json`, for presets that are not of this package


def preset_class(preset: Preset) -> str:
    """Returns what `config.json` stores for a preset that is not of this package."""
    return class_path(type(preset))


def preset_of_run(
    config: Mapping[str, Any], path: pathlib.Path, given: type[Preset] | None = None
) -> type[Preset]:
    """Returns the preset class of a run.

    Args:
        config: content of its `config.json`.
        path: run directory, for the error message.
        given: class that the user passed; `None` finds it among those that are defined.

    Raises:
        TypeError: if `given` is no preset class.
        ValueError: if `given` is of another method, or the class is not of this package and this
            process has not defined it.
    """
    method, name = config["method"], config.get(PRESET_CLASS)
    if given is not None:
        check_preset_class(given)
        if given.method != method:
            raise ValueError(
                f"`preset` must be the preset of the run. Expected: the one of {method!r}. "
                f"Received: {class_path(given)} of {given.method!r} for {str(path)!r}"
            )
        return given
    if name is None and (method in PRESETS or find_own_preset(method) is not None):
        return find_preset(method)
    if name is not None and (own := find_own_preset(method, name)) is not None:
        return own
    raise ValueError(
        f"The run's method {method!r} is not one of keras_ssl ({', '.join(PRESETS)}). Expected, in "
        "Python: the import of the module that defines its preset, or `keras_ssl.Run(path, "
        "preset=...)`; the command line opens the runs of keras_ssl's methods only. "
        f"Received: {str(path)!r}" + (f", with the preset {name}" if name else "")
    )


def check_preset_class(preset: Any):
    """Checks that something is a preset class.

    Raises:
        TypeError: if it is not.
    """
    if not (isinstance(preset, type) and issubclass(preset, Preset)):
        raise TypeError(
            "`preset` must be a subclass of `keras_ssl.presets.Preset`, not an object or a name. "
            f"Received: preset={preset!r}"
        )


def own_class(preset: Preset) -> type[Preset] | None:
    """Returns the class of a preset that is not of this package, otherwise `None`."""
    return None if is_of_package(type(preset)) else type(preset)
