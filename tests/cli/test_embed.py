"""`keras-ssl embed` and `search`, and `export` for other runtimes."""

import keras
import numpy as np
import pytest
from PIL import Image

from keras_ssl import data, export
from keras_ssl.backbones import Tiny
from keras_ssl.search import read_features
from tests.command_line import call


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "photos"
    random = np.random.default_rng(0)
    for name, colour in (("red", (200, 20, 20)), ("blue", (20, 20, 200))):
        (root / name).mkdir(parents=True)
        for index in range(8):
            image = np.clip(np.array(colour) + random.normal(0, 20, (20, 18 + index, 3)), 0, 255)
            Image.fromarray(image.astype(np.uint8)).save(root / name / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return export.saved_model(Tiny((16, 16, 3)), tmp_path_factory.mktemp("models") / "tiny")


def test_embed_and_search_a_folder(photos, model, tmp_path):
    features, picture = tmp_path / "f.npz", tmp_path / "p.png"
    status, out, err = call("embed", model, "--data", photos, "--out", features)
    assert status == 0, err
    assert "16 images with 64 features each" in out
    assert f"keras-ssl search {features} --query 0\n" in out
    found = read_features(features)
    assert found.names[0] == "blue/0.png"
    assert found.about["class_names"] == ["blue", "red"]

    for query in ("0", "blue/0.png", photos / "blue" / "0.png"):
        words = ["--query", query, "--count", 7, "--out", picture]
        status, out, err = call("search", features, *words)
        assert status == 0, err
        names = [line for line in out.splitlines() if ".png" in line and "Written" not in line]
        if query == photos / "blue" / "0.png":
            assert "1.0000" in names[0]  # the file itself is among the features
        else:
            assert len(names) == 7
            assert all("blue/" in line and line.count("blue") == 2 for line in names)
        with Image.open(picture) as drawn:
            assert drawn.format == "PNG"
        picture.unlink()


def test_digits_are_searched_by_number(tmp_path):
    path = export.saved_model(Tiny((8, 8, 1), features=8), tmp_path / "model")
    status, _, err = call("embed", path, "--data", "digits", "--out", tmp_path / "f.npz")
    assert status == 0, err
    found = read_features(tmp_path / "f.npz")
    assert found.names[-1] == "test/359"
    np.testing.assert_array_equal(found.labels[:9], data.digits("train").labels[:9])
    words = [tmp_path / "f.npz", "--out", tmp_path / "p.png", "--query"]
    assert call("search", *words, "test/3")[0] == 0
    status, _, err = call("search", *words, 5000)
    assert status == 1
    assert "--query must be 0 to 1796" in err
    status, _, err = call("search", *words, "nothing.png")
    assert "--query must be an image file" in err


def test_search_refuses_features_of_another_network(photos, model, tmp_path):
    keras.utils.set_random_seed(1)
    other = export.saved_model(Tiny((16, 16, 3)), tmp_path / "other")
    call("embed", other, "--data", photos, "--out", tmp_path / "f.npz")
    words = ["--query", photos / "red" / "1.png", "--model", model, "--out", tmp_path / "p.png"]
    status, _, err = call("search", tmp_path / "f.npz", *words)
    assert status == 1
    assert "must be the network that computed the features" in err
    assert not (tmp_path / "p.png").exists()


def test_search_finds_moved_images_with_data(photos, model, tmp_path):
    here = tmp_path / "here"
    call("embed", model, "--data", photos, "--out", tmp_path / "f.npz")
    photos.rename(here)
    words = [tmp_path / "f.npz", "--query", "1", "--out", tmp_path / "p.png"]
    try:
        status, _, err = call("search", *words)
        assert status == 1
        assert "pass --data" in err
        assert call("search", *words, "--data", here)[0] == 0
    finally:
        here.rename(photos)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "pdf"], "Unknown format"),
        (["--quantize", "int8"], "are for --format lite. Received: --format savedmodel"),
        (["--format", "lite"], "Expected: --out FILE"),
        (["--format", "lite", "--quantize", "int8", "--out", "a"], "--calibration DATA"),
    ],
)
def test_wrong_export_options_are_refused(words, message, model):
    status, _, err = call("export", model, *words)
    assert status == 1
    assert message in err


def test_export_for_litert_and_as_onnx(photos, model, tmp_path):
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("tf2onnx")
    lite = ["--format", "lite", "--quantize", "int8", "--calibration", photos]
    status, out, err = call("export", model, *lite, "--out", tmp_path / "a.tflite")
    assert status == 0, err
    assert "Written and checked" in out
    status, _, err = call("export", model, "--format", "onnx", "--out", tmp_path / "a.onnx")
    assert status == 0, err


def test_the_output_of_a_classifiers_export_is_named_scores_in_a_lite_file(tmp_path):
    """Only class names tell that this network is a classifier."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter
    network = export.saved_model(
        Tiny((8, 8, 1), features=4), tmp_path / "a", class_names=list("abcd")
    )
    out = tmp_path / "a.tflite"
    status, _, err = call("export", network, "--format", "lite", "--out", out)
    assert status == 0, err
    assert interpreter(str(out)).get_signature_list()["serving_default"]["outputs"] == ["scores"]
