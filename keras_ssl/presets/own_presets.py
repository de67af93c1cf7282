"""The presets that are defined outside of this package, found again when their runs are opened."""

from typing import Any

_DEFINED: dict[str, Any] = {}  # class name with its module -> class; the newest definition counts


def register_preset(preset: type):
    """Remembers a preset class. `Preset` calls it for each subclass that has a method's name."""
    _DEFINED[class_path(preset)] = preset


def class_path(preset: type) -> str:
    """Returns the name of a class with its module.

    Example:
        >>> class_path(keras_ssl.presets.SimCLR)
        'keras_ssl.presets.simclr.SimCLR'
    """
    return f"{preset.__module__}.{preset.__qualname__}"


def find_own_preset(method: str, path: str | None = None) -> Any | None:
    """Returns a preset class that this process has defined, or `None`.

    Args:
        method: name of its method.
        path: its `class_path` when the run started. A class of the same name in another module counts
            too: it may have moved from a notebook to a file. `None` accepts any class of the method.
    """
    classes = [preset for preset in _DEFINED.values() if preset.method == method]
    if path is None:
        return classes[-1] if classes else None
    name = path.rpartition(".")[2]
    same = [preset for preset in classes if preset.__name__ == name]
    exact = [preset for preset in same if class_path(preset) == path]
    return next(iter([*exact, *reversed(same)]), None)
