"""Imports point one way, and two things are used in one place each."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "keras_ssl"
MODULES = sorted(PACKAGE.rglob("*.py"))
RECIPES = sorted((ROOT / "recipes").rglob("*.py"))
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))
NAMES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in MODULES
}

# Lowest first. A module may import from its own level and from those below.
LEVELS = (
    ("distribute", "untrusted"),
    ("losses", "layers", "backbones", "augment", "optimizers"),
    ("methods", "data"),
    ("evaluate", "distill", "export", "importers", "callbacks"),
    ("presets",),
    ("runs", "search", "zoo"),
    ("cli",),
    ("recipes", "benchmarks"),
)
ROOTS = ("keras_ssl", "recipes", "benchmarks")
LEVEL = {name: number for number, level in enumerate(LEVELS) for name in level}


def part(path):
    """Returns the sub-package that a file belongs to."""
    return path.relative_to(PACKAGE if PACKAGE in path.parents else ROOT).parts[0]


def modules_imported(tree):
    """Yields the names that a file imports from this repository, also in functions and for types."""
    for node in ast.walk(tree):
        found = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and "." in str(node.value) and node.value in NAMES:
            found = [node.value]  # for `importlib.import_module`
        yield from (name for name in found if name.split(".")[0] in ROOTS)


def parts_imported(tree):
    """Returns the sub-packages that a file imports from; `pretrain` and `Run` belong to `runs`."""
    words = [name.split(".") for name in modules_imported(tree)]
    names = {each[1] if each[0] == "keras_ssl" else each[0] for each in words if each[1:]}
    return {"runs" if name in ("pretrain", "Run") else name for name in names}


def upward(path, tree):
    own = part(path)
    return sorted(
        f"{own} imports {name}" for name in parts_imported(tree) if LEVEL[name] > LEVEL[own]
    )


@pytest.mark.parametrize(
    "path", [*MODULES, *RECIPES, *BENCHMARKS], ids=lambda path: str(path.relative_to(ROOT))
)
def test_imports_point_downwards(path):
    tree = ast.parse(path.read_text())
    if path == PACKAGE / "__init__.py":
        assert parts_imported(tree) == {"runs"}  # `pretrain` and `Run`, when they are used
        return
    assert upward(path, tree) == []


def test_an_upward_import_would_be_found():
    forms = """
def f():
    from keras_ssl import callbacks
import keras_ssl.evaluate.knn
from keras_ssl import pretrain
from keras_ssl.presets import SimCLR
from benchmarks.report import table
importlib.import_module("keras_ssl.cli.program")
if TYPE_CHECKING:
    from keras_ssl.search import images
from keras_ssl import layers, methods
"""
    names = ("benchmarks", "callbacks", "cli", "evaluate", "presets", "runs", "search")
    found = upward(PACKAGE / "data" / "views.py", ast.parse(forms))
    assert found == [f"data imports {name}" for name in names]


def circles(edges):
    """Returns the nodes of a graph that are on a circle, or between two circles."""
    left = {node: set(targets) - {node} for node, targets in edges.items()}
    while left:
        targets = set().union(*left.values())
        ends = [node for node in left if node not in targets or not left[node] & left.keys()]
        if not ends:
            break
        for node in ends:
            del left[node]
    return sorted(left)


def test_packages_do_not_import_each_other():
    edges = {}
    for path in MODULES:
        if path.parent != PACKAGE:
            imported = parts_imported(ast.parse(path.read_text()))
            edges.setdefault(part(path), set()).update(imported & LEVEL.keys())
    assert circles(edges) == []


def test_modules_do_not_import_each_other():
    edges = {
        name: {
            # What is imported is a module, or a name in one.
            each if each in NAMES else each.rpartition(".")[0]
            for each in modules_imported(ast.parse(path.read_text()))
        }
        & NAMES.keys()
        for name, path in NAMES.items()
    }
    assert edges["keras_ssl.presets.moco"] >= {"keras_ssl.layers", "keras_ssl.presets.momentum"}
    assert circles(edges) == []


def test_a_circle_would_be_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d"}}) == ["b", "c"]


def test_recipes_are_made_of_presets():
    for path in RECIPES:
        if path.parent.name != "studies":
            assert parts_imported(ast.parse(path.read_text())) <= {"cli", "presets"}


def files_that_use(words):
    """Returns the files whose code, without comments and strings, uses a name."""
    return [
        str(path.relative_to(PACKAGE))
        for path in MODULES
        if any(
            isinstance(node, ast.Attribute) and ast.unparse(node).endswith(words)
            for node in ast.walk(ast.parse(path.read_text()))
        )
    ]


def test_one_package_uses_tf_distribute():
    assert {name.split("/")[0] for name in files_that_use("tf.distribute")} == {"distribute"}


def test_one_training_step_has_a_gradient_tape():
    # in_chunks computes the forward pass twice, the second time under a tape of its own.
    assert files_that_use("GradientTape") == ["layers/in_chunks.py", "methods/learner.py"]


START = """
import sys

import keras_ssl

early = {"tensorflow", "keras", "numpy", "rich", "tyro"} & set(sys.modules)
assert not early, f"imported by keras_ssl: {early}"
import keras_ssl.cli
import keras_ssl.presets
import keras_ssl.runs.settings

early = {"tensorflow", "keras", "sklearn"} & set(sys.modules)
assert not early, f"imported by the command line: {early}"
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
