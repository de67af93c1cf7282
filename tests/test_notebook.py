"""The notebook for TPUs runs on CPUs with small settings; its requirements and links are right."""

import json
import pathlib
import re

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "colab_tpu.ipynb"


def cells(kind):
    """Returns the sources of the cells of a kind, by their ids."""
    notebook = json.loads(NOTEBOOK.read_text())
    return {
        cell["id"]: "".join(cell["source"])
        for cell in notebook["cells"]
        if cell["cell_type"] == kind
    }


def is_shell(source):
    return source.startswith(("!", "%"))


@pytest.mark.large
def test_the_cells_run_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TPU_NAME", "")  # the notebook sets it; monkeypatch restores it
    settings = {"STRATEGY": "mirrored", "DATA": "digits", "EPOCHS": 20, "BATCH_SIZE": 256}
    for name, value in {**settings, "STEPS_PER_EXECUTION": 2, "RUN": "run"}.items():
        monkeypatch.setenv(name, str(value))

    names = {"__name__": "__main__"}
    for identifier, source in cells("code").items():
        if not is_shell(source):
            exec(compile(source, f"<cell {identifier}>", "exec"), names)

    printed = capsys.readouterr().out
    assert "2 cores, 128 images on each" in printed
    assert names["EPOCHS"] == len(names["history"]) == 20
    assert names["after"].accuracy > names["before"].accuracy
    assert (tmp_path / "run" / "export" / "saved_model.pb").is_file()
    images = np.random.default_rng(0).random((3, 8, 8, 1), np.float32)
    np.testing.assert_allclose(
        names["loaded"](images), names["encoder"](images), rtol=1e-5, atol=1e-6
    )


def test_the_shell_cell_installs_the_requirements():
    shell = "\n".join(source for source in cells("code").values() if is_shell(source))
    project = (ROOT / "pyproject.toml").read_text()
    listed = re.search(r"^dependencies = \[(.*?)^\]", project, re.DOTALL | re.MULTILINE).group(1)
    required = set(re.findall(r'"([^"]+)"', listed))
    (tensorflow,) = (each for each in required if each.startswith("tensorflow>"))
    assert set(re.findall(r'"([^"]+)"', shell)) == required - {tensorflow}
    # With dependencies, pip would replace the TensorFlow for TPUs.
    assert "--no-deps /content/keras_ssl" in shell


def test_the_notebook_is_stored_without_outputs():
    notebook = json.loads(NOTEBOOK.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    for cell in notebook["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])


def test_the_links_have_targets():
    for source in cells("markdown").values():
        for link in re.findall(r"\]\(([^)\s]+)\)", source):
            file, _, heading = link.partition("#")
            target = NOTEBOOK.parent / file
            assert target.is_file(), link
            titles = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert not heading or heading in [title.lower().replace(" ", "-") for title in titles]
