"""The manifest of an export, and `export.load`, which verifies it."""

import hashlib
import json
import shutil

import keras
import numpy as np
import pytest

from keras_ssl import export
from keras_ssl.backbones import Tiny


@pytest.fixture(scope="module")
def original():
    return Tiny((8, 8, 3), features=16)


@pytest.fixture(scope="module")
def exported(original, tmp_path_factory):
    return export.saved_model(original, tmp_path_factory.mktemp("artefacts") / "tiny")


@pytest.fixture
def copy(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "copy")


def test_every_file_except_the_card_is_listed(exported):
    files = json.loads((exported / "manifest.json").read_text())["files"]
    found = {p.relative_to(exported).as_posix() for p in exported.rglob("*") if p.is_file()}
    assert set(files) == found - {"README.md", "manifest.json"}
    for name, entry in files.items():
        content = (exported / name).read_bytes()
        assert entry == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@pytest.mark.parametrize(
    "name", ["backbone.keras", "saved_model.pb", "metrics.json", "variables/variables.index"]
)
def test_a_changed_file_is_named(name, copy):
    content = bytearray((copy / name).read_bytes())
    content[-1] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"not the one that was exported.*Expected: {name} with"):
        export.load(copy)


def test_a_missing_file_is_named(copy):
    (copy / "variables" / "variables.index").unlink()
    with pytest.raises(ValueError, match=r"lacks a file.*Expected: variables/variables.index"):
        export.load(copy)


def test_the_card_may_change_and_files_may_be_added(copy):
    (copy / "README.md").write_text("# Better")
    (copy / "notes.txt").write_text("by hand")
    assert export.load(copy).input_shape == (None, 8, 8, 3)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("{", "must list the files of the export"),
        ("[]", "must list the files of the export"),
        ('{"format": 2, "files": {}}', "must have format 1"),
        ('{"format": 1, "files": {"../a": {"bytes": 1, "sha256": ""}}}', "below its directory"),
        ('{"format": 1, "files": {"/a": {"bytes": 1, "sha256": ""}}}', "below its directory"),
    ],
)
def test_an_invalid_manifest_is_refused(manifest, message, copy):
    (copy / "manifest.json").write_text(manifest)
    with pytest.raises(ValueError, match=message):
        export.load(copy)


def test_an_export_without_a_manifest_is_not_loaded_but_can_be_replaced(copy, original):
    (copy / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"Missing: manifest.json"):
        export.load(copy)
    assert (export.saved_model(original, copy, overwrite=True) / "manifest.json").is_file()


def test_a_loaded_network_fine_tunes_like_the_original(exported, original):
    random = np.random.default_rng(0)
    images = random.uniform(size=(8, 8, 8, 3)).astype("float32")
    labels = np.arange(8) % 2
    before = original.get_weights()
    weights = []
    for backbone in (keras.models.clone_model(original), export.load(exported)):
        if not weights:
            backbone.set_weights(before)
        head = keras.layers.Dense(2, kernel_initializer=keras.initializers.GlorotUniform(seed=1))
        classifier = keras.Sequential([backbone, head])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        classifier.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss)
        for _ in range(3):
            classifier.train_on_batch(images, labels)
        weights.append(classifier.get_weights())
    assert not np.allclose(weights[0][0], before[0], atol=1e-4)
    for expected, received in zip(*weights, strict=True):
        np.testing.assert_allclose(received, expected, atol=1e-6)
