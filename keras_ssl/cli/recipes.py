"""Recipes: published set-ups, as Python files that define the settings of a command as `RECIPE`."""

import pathlib
import runpy
from typing import Any

import keras_ssl
from keras_ssl.presets import lookup

_PACKAGE = pathlib.Path(keras_ssl.__file__).parent


def load_recipe(name: str, command: str, kind: type) -> Any:
    """Returns the settings of a recipe.

    Args:
        name: name of a recipe, or path of a Python file that defines `RECIPE`.
        command: name of the command.
        kind: dataclass of the command's settings.

    Raises:
        ValueError: if there is no such recipe, or it is of another command.
    """
    path = pathlib.Path(name)
    if path.suffix != ".py":
        path = lookup("recipe", name, _files())
    if not path.is_file():
        raise FileNotFoundError(f"There must be a recipe file. Received: {name!r}, which is none")
    recipe = read_recipe(path).get("RECIPE")
    if not isinstance(recipe, kind):
        raise ValueError(
            f"A recipe of `keras-ssl {command}` defines RECIPE = {kind.__name__}(...). Received: "
            f"{name!r} with RECIPE of type {type(recipe).__name__}"
        )
    return recipe


def list_recipes(command: str, kind: type) -> str:
    """Returns a list of a command's recipes: name and summary of each."""
    lines = [f"Recipes of keras-ssl {command}. To run one: keras-ssl {command} --recipe NAME", ""]
    for name, path in _files().items():
        found = read_recipe(path)
        if isinstance(found.get("RECIPE"), kind):
            lines.append(f"  {name:24}{found['__doc__'].splitlines()[0]}")
    return "\n".join(lines)


def recipe_run(name: str, smoke: bool) -> pathlib.Path:
    """Returns the default run directory of a recipe. Smoke runs have one of their own."""
    return pathlib.Path("runs", pathlib.Path(name).stem + ("-smoke" if smoke else ""))


def _files() -> dict[str, pathlib.Path]:
    """Returns the recipe files by name: installed inside the package, beside it in a clone."""
    for folder in (_PACKAGE / "recipes", _PACKAGE.parent / "recipes"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.py")) if path.stem[0] != "_"}
    return {}


def read_recipe(path: pathlib.Path) -> dict[str, Any]:
    """Returns the names that a recipe file defines."""
    return runpy.run_path(str(path), run_name="recipe")
