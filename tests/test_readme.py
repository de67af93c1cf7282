"""The documents: their scripts run, their links have targets, and their commands parse."""

import ast
import contextlib
import io
import pathlib
import re
import shlex
import subprocess
import sys
import types

import numpy as np
import pytest
from PIL import Image

import keras_ssl
from keras_ssl.cli.program import parse

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]


def blocks(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(), re.DOTALL | re.MULTILINE)


def commands(text):
    """Returns the words behind `keras-ssl` of every command line in the text, in blocks or inline."""
    joined = text.replace("\\\n", " ")
    lines = re.findall(r"^ *(?:\.venv/bin/)?keras-ssl +(.+)$", joined, re.MULTILINE)
    inline = re.findall(r"`keras-ssl ([^`\n]+)`", joined)
    return [shlex.split(line, comments=True) for line in (*lines, *inline)]


def missing_links(path):
    prose = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\(([^)\s]+)\)", prose)
    return [link for link in links if "://" not in link and not leads_somewhere(path, link)]


def leads_somewhere(path, link):
    file, _, heading = link.partition("#")
    target = path.parent / file if file else path
    if not target.exists() or not heading:
        return target.exists()
    headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
    return heading in [re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings]


def write_images(folder, names):
    random = np.random.default_rng(0)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (40, 36, 3), np.uint8)).save(path)


def test_the_blocks_of_the_readme_run_in_order(tmp_path, monkeypatch):
    write_images(tmp_path / "photos", [f"{number}.png" for number in range(16)])
    write_images(tmp_path / "labeled", [f"{name}/{n}.png" for name in "ab" for n in range(10)])
    monkeypatch.chdir(tmp_path)
    pretrain = keras_ssl.pretrain
    small = {"image_size": 16, "epochs": 1, "batch_size": 8, "backbone": "tiny"}
    runs = []

    def pretrain_small(*arguments, **settings):
        """Makes the same call, with less to do."""
        runs.append(pretrain(*arguments, **{**settings, **small}))
        return runs[-1]

    monkeypatch.setattr(keras_ssl, "pretrain", pretrain_small)
    names = {"__name__": "readme"}
    for block in blocks(ROOT / "README.md", "python"):
        exec(block, names)
    assert runs  # it shows at least one pretraining, and what comes after it
    assert "trained" in runs[0].metrics["rows"]
    assert (runs[0].export_path / "saved_model.pb").is_file()


def test_the_readme_has_three_lines_of_python():
    first, *_ = blocks(ROOT / "README.md", "python")
    lines = [line for line in first.splitlines() if line.strip()]
    assert lines[0] == "import keras_ssl"
    assert len(lines) == 4


@pytest.mark.parametrize(
    "name",
    [
        "getting_started",
        pytest.param("augmentations", marks=pytest.mark.large),
        pytest.param("add_a_method", marks=pytest.mark.large),
        pytest.param("methods", marks=pytest.mark.large),
        pytest.param("monitoring", marks=pytest.mark.large),
    ],
)
def test_the_examples_of_a_page_run_in_order(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.print", lambda *values: None)
    names = {"__name__": f"docs_{name}"}
    examples = blocks(ROOT / "docs" / f"{name}.md", "python")
    assert examples
    for example in examples:
        exec(example, names)


def test_the_code_of_a_new_method_passes_the_linter():
    code = "\n\n".join(blocks(ROOT / "docs" / "add_a_method.md", "python"))
    # The blocks are one module, in which each block starts with its imports.
    ruff = [sys.executable, "-m", "ruff", "check", "--ignore", "D100,E402"]
    done = subprocess.run(
        [*ruff, "--output-format", "concise", "--stdin-filename", "docs/method.py", "-"],
        input=code,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def missing_names(code):
    """Returns the names of keras_ssl that Python code uses and that do not exist."""
    nodes = list(ast.walk(ast.parse(code)))
    known, missing = {"keras_ssl": keras_ssl}, []
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("keras_ssl"):
            for alias in node.names:
                imported = {}
                try:
                    exec(f"from {node.module} import {alias.name} as found", imported)
                except ImportError:
                    missing.append(f"{node.module}.{alias.name}")
                known[alias.asname or alias.name] = imported.get("found")
    attributes = [ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)]
    return missing + [name for name in attributes if not exists(name, known)]


def exists(expression, known):
    """Returns False if the expression leads to a name that a module or class does not have."""
    first, *names = expression.split(".")
    found = known.get(first)
    for name in names:
        if not isinstance(found, (types.ModuleType, type)) or not name.isidentifier():
            return True
        if not hasattr(found, name):
            return False
        found = getattr(found, name)
    return True


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_names_in_examples_exist(path):
    assert missing_names("\n".join(blocks(path, "python"))) == []


def test_a_missing_name_is_found():
    code = """
import keras_ssl
from keras_ssl import augment, nothing
from keras_ssl.runs import Run
augment.simclr(32.5).view_1, augment.simklr(32), Run.config, Run("a").path, keras_ssl.Ran
"""
    assert set(missing_names(code)) == {"keras_ssl.nothing", "augment.simklr", "keras_ssl.Ran"}


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_links_have_targets(path):
    assert missing_links(path) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_commands_parse(path):
    for words in commands(path.read_text()):
        if words[-1] in ("--help", "-h", "--recipe"):  # they print and exit
            with pytest.raises(SystemExit, match="0"), contextlib.redirect_stdout(io.StringIO()):
                parse(words)
        elif len(words) > 1 or words == ["demo"]:  # `keras-ssl evaluate` alone is a name
            parse(words)


def test_the_readme_shows_every_command():
    shown = {words[0] for words in commands((ROOT / "README.md").read_text())}
    assert shown >= {"pretrain", "evaluate", "finetune", "distill", "simclrv2", "export"}


def test_a_wrong_option_is_found():
    with pytest.raises(SystemExit), contextlib.redirect_stderr(io.StringIO()):
        [parse(words) for words in commands("```\nkeras-ssl pretrain --epoch-count 3\n```")]


def test_a_dead_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A title\n[here](page.md) [title](#a-title) [outside](https://keras.io)\n"
        "[no file](other.md) [no heading](page.md#another)\n"
    )
    assert missing_links(page) == ["other.md", "page.md#another"]
