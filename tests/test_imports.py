"""Imports point one way only, and two things are named in one place each."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "keras_ssl"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Lowest first. A module may import what stands on its own level or below.
LEVELS = (
    ("distribute", "serialization", "untrusted"),
    ("losses", "layers", "backbones", "augment", "optimizers"),
    ("methods", "data"),
    ("evaluate", "export", "importers", "cost", "zoo"),
    ("distill",),
    ("callbacks",),
    (
        "run",
        "saved_settings",
        "report",
        "plots",
        "identity",
        "pretrain",
        "names",
        "sources",
        "search",
    ),
    ("commands", "run_settings"),
    ("cli",),
)
LEVEL = {name: number for number, level in enumerate(LEVELS) for name in level}
# The settings of a command are read by what runs it; `cli` itself imports that only when it runs.
# A momentum method trained without a MomentumEncoder adds one when `fit` runs.
ALLOWED = {
    ("commands", "cli"),
    ("run_settings", "cli"),
    ("methods", "callbacks"),
}


def part(path):
    """Returns the part of the package that a file belongs to: a sub-package or a module."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree):
    """Yields the parts of keras_ssl that a module imports, and whether only when it runs."""
    inner = {
        node
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.Lambda))
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        found = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, "imports are absolute"
            found = [node.module]
            if node.module == "keras_ssl":
                found = [f"keras_ssl.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
            found = [a.value for a in node.args if isinstance(a, ast.Constant)]
        for name in found:
            words = name.split(".")
            if words[0] == "keras_ssl" and len(words) > 1:
                yield words[1], node in inner


def violations(path, tree):
    own = part(path)
    for imported, when_run in imports(tree):
        assert imported in LEVEL, f"{imported} stands on no level"
        upward = LEVEL[imported] > LEVEL[own]
        if upward and (own, imported) not in ALLOWED:
            yield f"{own} imports {imported}"
        if (own, imported) == ("cli", "commands") and not when_run:
            yield "cli imports commands before it runs"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path):
    if path == PACKAGE / "__init__.py":
        assert list(imports(ast.parse(path.read_text()))) == []
        return
    assert part(path) in LEVEL, f"{part(path)} stands on no level"
    assert list(violations(path, ast.parse(path.read_text()))) == []


def test_an_upward_import_would_be_found():
    tree = ast.parse("from keras_ssl import callbacks\nimport keras_ssl.run\nimport keras_ssl.data")
    found = list(violations(PACKAGE / "evaluate" / "knn.py", tree))
    assert found == ["evaluate imports callbacks", "evaluate imports run"]


def naming(words):
    """Returns the files whose code, without comments and strings, holds these words."""
    return [
        str(path.relative_to(PACKAGE))
        for path in MODULES
        if any(
            isinstance(node, ast.Attribute) and ast.unparse(node).endswith(words)
            for node in ast.walk(ast.parse(path.read_text()))
        )
    ]


def test_one_package_names_tf_distribute():
    assert {name.split("/")[0] for name in naming("tf.distribute")} == {"distribute"}


def test_one_training_step_has_a_gradient_tape():
    # And what computes a part of it twice has one for the second time.
    assert naming("GradientTape") == ["layers/in_chunks.py", "methods/learner.py"]


START = """
import sys

import keras_ssl

early = {"tensorflow", "keras", "numpy", "rich", "tyro"} & set(sys.modules)
assert not early, f"imported by keras_ssl: {early}"
import keras  # which imports parts of some libraries itself, if they are there

before = set(sys.modules)
for name in keras_ssl.__all__:
    getattr(keras_ssl, name)
names = {"matplotlib", "sklearn", "tensorflow_datasets"}
early = {name for name in set(sys.modules) - before if name.split(".")[0] in names}
assert not early, f"imported by a package of keras_ssl: {early}"
"""


def test_libraries_are_imported_when_they_are_used():
    done = subprocess.run(
        [sys.executable, "-c", START], cwd=PACKAGE.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
