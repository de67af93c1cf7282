"""What the documents print is true: scripts run, links lead somewhere, options exist."""

import contextlib
import io
import pathlib
import re
import shlex

import pytest
import tyro

from keras_ssl import cli

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


def parse(words):
    # Letters in capitals, such as RUN and DATA, stand for something; they parse as text.
    return tyro.cli(cli.Command, args=words, config=(tyro.conf.OmitArgPrefixes,))


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


def test_the_readmes_script_runs(tmp_path, monkeypatch, capsys):
    script, loading = blocks(ROOT / "README.md", "python")
    assert "model.compile(" in script
    assert "model.fit(" in script
    assert len([line for line in script.splitlines() if line.strip()]) == 15

    monkeypatch.chdir(tmp_path)
    names = {}
    exec(script, names)
    printed = capsys.readouterr().out
    assert "Untrained: knn" in printed
    assert "Trained: knn" in printed
    assert "(1, 64)" in printed
    assert (tmp_path / "digits-encoder" / "saved_model.pb").is_file()

    exec(loading, names)
    assert names["features"].shape == (4, 64)
    assert names["served"].shape == (4, 64)
    assert names["classifier"](names["images"]).shape == (4, 10)


@pytest.mark.parametrize(
    "name",
    [
        "augmentations",
        "add_a_method",
        pytest.param("methods", marks=pytest.mark.large),
        "monitoring",
    ],
)
def test_the_examples_of_a_page_run_in_their_order(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.print", lambda *values: None)
    names = {"__name__": f"docs_{name}"}
    examples = blocks(ROOT / "docs" / f"{name}.md", "python")
    assert examples
    for example in examples:
        exec(example, names)


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_links_lead_to_files(path):
    assert missing_links(path) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_commands_parse(path):
    for words in commands(path.read_text()):
        if words[-1] in ("--help", "-h"):
            with pytest.raises(SystemExit, match="0"), contextlib.redirect_stdout(io.StringIO()):
                parse(words)
        elif len(words) > 1 or words == ["demo"]:  # `keras-ssl evaluate` alone is a name
            parse(words)


def test_the_readme_shows_every_command():
    shown = {words[0] for words in commands((ROOT / "README.md").read_text())}
    assert shown >= {"pretrain", "evaluate", "finetune", "distill", "simclrv2", "export"}


def test_a_wrong_option_would_be_found():
    with pytest.raises(SystemExit), contextlib.redirect_stderr(io.StringIO()):
        [parse(words) for words in commands("```\nkeras-ssl pretrain --epoch-count 3\n```")]


def test_a_dead_link_would_be_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A title\n[here](page.md) [title](#a-title) [outside](https://keras.io)\n"
        "[no file](other.md) [no heading](page.md#another)\n"
    )
    assert missing_links(page) == ["other.md", "page.md#another"]
