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


@pytest.mark.large
def test_import_a_vision_transformer(tmp_path):
    with np.load(GOLDEN / "timm_vits.npz") as golden:
        shapes = json.loads(str(golden["token/shapes"]))
    rng = np.random.default_rng(0)
    tensors = {k: rng.normal(size=shape).astype("float32") for k, shape in shapes.items()}
    file, out = tmp_path / "vit.safetensors", tmp_path / "vit"
    write_safetensors(file, tensors)
    words = ("import", file, "--kind", "vit", "--heads", 4, "--image-size", 32, "--out", out)
    status, printed, error = call(*words, "--normalization", "half")
    assert status == 0, error
    assert "ImageNet" not in printed
    images = rng.normal(size=(2, 32, 32, 3)).astype("float32")
    expected = importers.torch_vit(tensors, input_shape=(32, 32, 3), heads=4)(images)
    np.testing.assert_allclose(export.load(out)(images), expected, atol=1e-4)
    assert json.loads((out / "preprocessing.json").read_text())["std"] == [0.5, 0.5, 0.5]
    assert json.loads((out / "recipe.json").read_text())["heads"] == 4
    status, printed, error = call(*words[:-1], tmp_path / "other")
    assert status == 0, error
    assert "timm's own vit_* weights expect --normalization half" in " ".join(printed.split())


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name, array in tensors.items():
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": offsets}
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def test_wrong_files_and_options_are_refused(file, tmp_path):
    out = ("--out", tmp_path / "out")
    for words, message in (
        ((file, "--kind", "moco", *out), "not a MoCo checkpoint"),
        ((file, "--kind", "byol", *out), "cannot be read as a pickle of plain data"),
        ((tmp_path / "none", "--kind", "simclr", *out), "prefix of one checkpoint"),
        (
            (file, "--kind", "moco", "--prefix", "x.", *out),
            "goes with `--kind torchvision or vit` only",
        ),
        ((file, "--kind", "swav", "--stride-in", "1x1", *out), "`--stride-in` goes with"),
        ((file, "--kind", "byol", "--stem-padding", "2", *out), "`--stem-padding` goes with"),
        (
            (file, "--kind", "torchvision", "--heads", "6", *out),
            "`--kind vit or dino or moco-v3 or",
        ),
        ((file, "--kind", "moco", "--normalization", "half", *out), "`--normalization` goes with"),
        ((file, "--kind", "vit", "--heads", "0", *out), "must be positive"),
        ((file, "--kind", "vit", *out), "not a plain vision transformer"),
        ((file, "--kind", "dino", "--heads", "6", *out), "`heads` goes with vision transformers"),
        ((file, "--kind", "torchvision", "--prefix", "x.", *out), "has the prefix"),
        ((file, "--kind", "torchvision", "--image-size", "-1", *out), "number of pixels"),
    ):
        status, _, error = call("import", *words)
        assert status == 1
        assert message in error
    assert not (tmp_path / "out").exists()
