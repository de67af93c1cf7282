"""Metadata and model card of an export."""

import json
import pathlib
import re

import numpy as np
import pytest

from keras_ssl import export
from keras_ssl.backbones import Tiny
from keras_ssl.evaluate import FewLabels, Result
from keras_ssl.evaluate.classifier import with_classes
from keras_ssl.export import model_card
from keras_ssl.export.artefact import Artefact, output_name
from keras_ssl.export.class_names import read_output_name
from keras_ssl.export.preprocessing import Preprocessing


@pytest.fixture(scope="module")
def backbone():
    return Tiny((16, 16, 3), features=16)


def test_the_output_of_a_classifier_is_named_scores_also_without_class_names(backbone):
    classifier = with_classes(backbone, classes=3)
    documents = model_card.render_documents((16, 16, 3), None, None, None)
    artefact = Artefact(
        classifier, (16, 16, 3), Preprocessing(json.loads(documents["preprocessing.json"]))
    )
    assert list(artefact.training.get_concrete_function().structured_outputs) == ["scores"]
    card = model_card.render("a", classifier, classifier, 3, documents)
    assert "It maps each image to 3 scores" in card
    assert "`scores`, float32. One score per class, before the softmax. The network has no" in card
    assert 'scores = layer(images)["scores"]' in card
    assert output_name(backbone) == "features"
    assert output_name(backbone, ["cat"]) == "scores"


@pytest.mark.parametrize(
    ("content", "name"),
    [('{"class_names": ["a", "b"]}', "scores"), ('{"size": [8, 8]}', None), (None, None)],
)
def test_the_output_of_an_export_on_disk(content, name, tmp_path):
    if content is not None:
        (tmp_path / "preprocessing.json").write_text(content)
    assert read_output_name(tmp_path) == name


def test_metadata_is_written_as_json_and_on_the_card(tmp_path, backbone):
    path = export.saved_model(
        backbone,
        tmp_path / "a",
        metrics={
            "knn": Result("knn", 0.5, None, 8, 4, {"k": 2}),
            "epochs": np.int64(3),
            "few_labels": [
                FewLabels("linear", 5, [0.25, 0.75], 40, 8),
                FewLabels("knn", 1, [0.125], 8, 8),
            ],
            "labelled": [1, 2],
        },
        recipe={"method": "SimCLR", "widths": np.arange(2), "data": pathlib.Path("images")},
        preprocessing={"centre_crop": 0.875, "mean": [0.5] * 3, "std": (0.25,) * 3},
    )
    read = {name: json.loads((path / f"{name}.json").read_text()) for name in ("recipe", "metrics")}
    assert read["metrics"]["epochs"] == 3
    assert read["metrics"]["knn"]["settings"] == {"k": 2}
    assert read["recipe"] == {"method": "SimCLR", "widths": [0, 1], "data": "images"}
    assert json.loads((path / "preprocessing.json").read_text()) == {
        "range": [0, 1],
        "value_range": None,
        "size": [16, 16],
        "channels": 3,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "interpolation": "bicubic",
        "antialias": True,
        "centre_crop": 0.875,
    }
    card = (path / "README.md").read_text()
    assert "| knn.accuracy | 0.5 |" in card
    assert "| linear, 5 labels per class | 0.5000 ± 0.3536 |" in card
    assert "| knn, 1 labels per class | 0.1250 |" in card  # one draw has no deviation
    assert "settings.k" not in card
    assert "labelled |" not in card
    assert '"method": "SimCLR"' in card
    assert f"16 features and has {backbone.count_params():,} parameters" in card


def test_metadata_is_empty_by_default(tmp_path, backbone):
    path = export.saved_model(backbone, tmp_path / "a")
    assert (path / "recipe.json").read_text() == (path / "metrics.json").read_text() == "{}\n"
    assert (path / "README.md").read_text().count("recorded") == 2


@pytest.mark.parametrize(
    ("size", "share"), [((32, 32), 1.0), ((224, 224), 0.875), ((96, 64), None)]
)
def test_the_default_crop_is_that_of_evaluation(size, share):
    assert model_card.preprocessing_contract((*size, 3))["centre_crop"] == share


@pytest.mark.parametrize(
    ("metadata", "error", "message"),
    [
        ({"metrics": {"loss": float("nan")}}, ValueError, "`metrics` must only contain"),
        ({"recipe": {"model": object()}}, ValueError, "`recipe` must only contain"),
        ({"recipe": "simclr"}, TypeError, "`recipe` must be a mapping. Received: recipe='simclr'"),
        (
            {"preprocessing": {"crop": 1}},
            ValueError,
            r"unknown entries. Expected: range.*Received: crop",
        ),
        ({"preprocessing": {"channels": 1}}, ValueError, r"takes channels=3. Received: channels=1"),
        ({"preprocessing": {"size": (8, 8)}}, ValueError, r"takes size=\[16, 16\]"),
        ({"class_names": ["cat", "dog"]}, ValueError, "Received: 2 names and 16 scores"),
        ({"preprocessing": {"range": [0, 255]}}, ValueError, r"takes range=\[0, 1\]"),
    ],
)
def test_invalid_metadata_is_refused_before_writing(metadata, error, message, tmp_path, backbone):
    with pytest.raises(error, match=message):
        export.saved_model(backbone, tmp_path / "a", **metadata)
    assert list(tmp_path.iterdir()) == []


def test_the_examples_of_the_card_run(tmp_path, backbone):
    path = export.saved_model(backbone, tmp_path / "tiny")
    images = np.random.default_rng(0).uniform(size=(4, 16, 16, 3)).astype("float32")
    blocks = re.findall(r"```python\n(.*?)```", (path / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        assert "path/to/tiny" in block
        names = {"images": images}
        exec(block.replace("path/to/tiny", str(path)), names)
        np.testing.assert_allclose(names["features"], backbone(images), atol=1e-5)
