"""`keras-ssl import`: published weights become an export."""

import gzip
import json
import pathlib

import numpy as np
import pytest

from keras_ssl import export, importers
from tests.command_line import call

GOLDEN = pathlib.Path(__file__).parents[1] / "oracles" / "golden"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    file = tmp_path_factory.mktemp("files") / "resnet18.pth"
    file.write_bytes(gzip.decompress((GOLDEN / "resnet18.pth.gz").read_bytes()))
    return file


@pytest.mark.large
def test_import_a_file_of_torchvision(file, tmp_path):
    out = tmp_path / "saved" / "resnet18"
    words = ("import", file, "--kind", "torchvision", "--out", out, "--image-size", 32)
    words += ("--stride-in", "3x3")
    status, printed, error = call(*words)
    assert status == 0, error
    assert f"Written and checked: {out}" in printed
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    expected = importers.torch_resnet(file, input_shape=(32, 32, 3))(images)
    np.testing.assert_allclose(export.load(out)(images), expected, atol=1e-5)
    recipe = json.loads((out / "recipe.json").read_text())
    assert recipe["imported"] == "torchvision"
    assert recipe["file"] == "resnet18.pth"
    assert recipe["stride_in"] == "3x3"
    assert len(recipe["sha256"]) == 64
    assert json.loads((out / "preprocessing.json").read_text())["mean"] == [0.485, 0.456, 0.406]
    status, _, error = call(*words)
    assert status == 1
    assert "which exists" in error


def test_wrong_files_and_options_are_refused(file, tmp_path):
    out = ("--out", tmp_path / "out")
    for words, message in (
        ((file, "--kind", "moco", *out), "not a MoCo checkpoint"),
        ((file, "--kind", "byol", *out), "cannot be read as a pickle of plain data"),
        ((tmp_path / "none", "--kind", "simclr", *out), "prefix of one checkpoint"),
        ((file, "--kind", "moco", "--prefix", "x.", *out), "goes with `--kind torchvision` only"),
        ((file, "--kind", "swav", "--stride-in", "1x1", *out), "`--stride-in` goes with"),
        ((file, "--kind", "byol", "--stem-padding", "2", *out), "`--stem-padding` goes with"),
        ((file, "--kind", "torchvision", "--prefix", "x.", *out), "has the prefix"),
        ((file, "--kind", "torchvision", "--image-size", "-1", *out), "number of pixels"),
    ):
        status, _, error = call("import", *words)
        assert status == 1
        assert message in error
    assert not (tmp_path / "out").exists()
