"""SavedModel export: loaders, the comparison with the backbone, replacing, and errors."""

import importlib
import json
import os
import pathlib
import re
import stat
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import export, methods
from keras_ssl.backbones import Tiny
from keras_ssl.export import parity, publish
from keras_ssl.layers import split_batch_norm

# The module; `export.saved_model` is the function.
saved_model_module = importlib.import_module("keras_ssl.export.saved_model")

DOCUMENTATION = pathlib.Path(__file__).parents[1] / "docs" / "export.md"


def random_images(batch=4, side=16, seed=0):
    shape = (batch, side, side, 3)
    return np.random.default_rng(seed).uniform(size=shape).astype("float32")


def with_statistics(backbone, side=16):
    """Changes the moving statistics from 0 and 1, so that a test notices if they are lost."""
    for seed in range(3):
        backbone(random_images(8, side, seed), training=True)
    return backbone


@pytest.fixture(scope="module")
def backbone():
    return with_statistics(Tiny((16, 16, 3), features=16))


def test_split_batch_norm_becomes_normal_batch_norm(tmp_path):
    backbone = with_statistics(split_batch_norm(Tiny((16, 16, 3), features=16), groups=4))
    loaded = export.load(export.saved_model(backbone, tmp_path / "split"))
    np.testing.assert_allclose(loaded(random_images()), backbone(random_images()), atol=1e-6)
    features = loaded(random_images(batch=3), training=True)  # not a multiple of the groups
    assert features.shape == (3, 16)


@pytest.fixture(scope="module")
def exported(backbone, tmp_path_factory):
    path = tmp_path_factory.mktemp("artefacts") / "tiny"
    return export.saved_model(backbone, path, metrics={"knn": {"accuracy": np.float32(0.5)}})


@pytest.fixture
def hub():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from pkg_resources and Keras 2
        return pytest.importorskip("tensorflow_hub", exc_type=ImportError)


LOADERS = {
    "tf.saved_model.load": lambda path, images: tf.saved_model.load(path)(images),
    "signature": lambda path, images: tf.saved_model.load(path).signatures["serving_default"](
        images=tf.constant(images)
    )["features"],
    "TFSMLayer": lambda path, images: keras.layers.TFSMLayer(path, call_endpoint="serving_default")(
        images
    )["features"],
    "export.load": lambda path, images: export.load(path)(images, training=False),
}


@pytest.mark.parametrize("loader", LOADERS)
def test_every_loader_gives_the_features_of_the_backbone(loader, backbone, exported):
    features = LOADERS[loader](exported, random_images())
    assert features.dtype == "float32"
    np.testing.assert_allclose(features, backbone(random_images(), training=False), atol=1e-5)


def test_hub_load_gives_the_features_of_the_backbone(hub, backbone, exported):
    network = hub.load(str(exported))
    np.testing.assert_allclose(network(random_images()), backbone(random_images()), atol=1e-5)
    assert len(network.trainable_variables) == len(backbone.trainable_variables)


def test_hub_keras_layer_trains_in_keras_2_only(hub, backbone, exported):
    tf_keras = pytest.importorskip("tf_keras")
    layer = hub.KerasLayer(str(exported), trainable=True)
    np.testing.assert_allclose(layer(random_images()), backbone(random_images()), atol=1e-5)
    assert len(layer.trainable_weights) == len(backbone.trainable_weights)

    model = tf_keras.Sequential([tf_keras.Input((16, 16, 3)), layer, tf_keras.layers.Dense(1)])
    model.compile(tf_keras.optimizers.SGD(0.01), "mse")
    losses = model.fit(random_images(), np.ones((4, 1)), epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    with pytest.raises(ValueError, match=r"Only instances of `keras\.Layer`"):
        keras.Sequential([keras.Input((16, 16, 3)), layer])


def test_a_keras_model_trains_through_tfsm_layer(exported):
    images = keras.Input((16, 16, 3))
    layer = keras.layers.TFSMLayer(exported, call_endpoint="serving_default")
    model = keras.Model(images, keras.layers.Dense(1)(layer(images)["features"]))
    model.compile(keras.optimizers.SGD(0.01), "mse")
    before = layer.trainable_variables[0].numpy()
    losses = model.fit(random_images(), np.ones((4, 1)), epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert not np.allclose(before, layer.trainable_variables[0].numpy())


def test_a_loaded_keras_model_trains(exported):
    model = keras.Sequential([export.load(exported), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    losses = model.fit(random_images(), np.ones((4, 1)), epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


@pytest.mark.large
def test_keras_applications_are_exported(tmp_path):
    backbone = keras.applications.MobileNetV2(
        (32, 32, 3), alpha=0.35, weights=None, include_top=False, pooling="avg"
    )
    path = export.saved_model(backbone, tmp_path / "mobilenet")
    network = tf.saved_model.load(path)
    np.testing.assert_allclose(
        network(random_images(2, 32)), backbone(random_images(2, 32)), atol=1e-5
    )
    assert "blocks" not in network.signatures  # it has no layers with these names
    assert "no `blocks` signature" in (path / "README.md").read_text()


@keras.saving.register_keras_serializable(package="test_export")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = keras.layers.Conv2D(4, 3)
        self.drop = keras.layers.Dropout(0.5)
        self.pool = keras.layers.GlobalAveragePooling2D()

    def call(self, images, training=False):
        return self.pool(self.drop(self.conv(images), training=training))


def test_a_subclassed_model_is_exported(tmp_path):
    backbone = Subclassed()
    backbone(random_images())
    network = tf.saved_model.load(export.saved_model(backbone, tmp_path / "subclassed"))
    np.testing.assert_allclose(network(random_images(2)), backbone(random_images(2)), atol=1e-5)
    assert not np.allclose(
        network(random_images(), training=True), network(random_images(), training=True)
    )


def test_the_backbone_of_a_method_is_exported(tmp_path, backbone):
    path = export.saved_model(methods.SimCLR(backbone), tmp_path / "simclr")
    np.testing.assert_allclose(
        export.load(path)(random_images()), backbone(random_images()), atol=1e-5
    )
    assert "the backbone of a `SimCLR` model" in (path / "README.md").read_text()


@keras.saving.register_keras_serializable(package="test_export")
class Forgetful(keras.layers.Layer):
    """A layer whose `factor` is missing in its configuration, a common mistake."""

    factor = 1.0

    def call(self, features):
        return features * self.factor


def model_changed_by_saving():
    tiny, last = Tiny((16, 16, 3), features=4), Forgetful()
    last.factor = 1.01
    return keras.Model(tiny.inputs[0], last(tiny.output))


def test_an_export_with_wrong_outputs_is_removed(tmp_path):
    with pytest.raises(RuntimeError, match=r"differ from those of the backbone.*__call__ within"):
        export.saved_model(model_changed_by_saving(), tmp_path / "broken")
    assert list(tmp_path.iterdir()) == []


def test_an_export_with_wrong_outputs_does_not_replace_another(tmp_path):
    path = export.saved_model(Tiny((16, 16, 3), features=4), tmp_path / "good")
    before = tf.saved_model.load(path)(random_images())
    with pytest.raises(RuntimeError, match="differ from those"):
        export.saved_model(model_changed_by_saving(), path, overwrite=True)
    np.testing.assert_array_equal(tf.saved_model.load(path)(random_images()), before)
    assert list(tmp_path.iterdir()) == [path]


def test_the_tolerance_grows_with_the_features():
    big = np.array([1000.0, -2000.0], "float32")
    parity.compare("features", big, big + 0.015)
    with pytest.raises(RuntimeError, match=r"within 2.0e-02.*difference of 3"):
        parity.compare("features", big, big + 0.03)
    with pytest.raises(RuntimeError, match=r"within 1\.0e-05"):
        parity.compare("features", big / 2000, big / 2000 + 2e-5)
    with pytest.raises(RuntimeError, match="difference of nan"):
        parity.compare("features", big, big * np.nan)


def test_features_that_are_not_finite_are_refused(tmp_path):
    backbone = Tiny((16, 16, 3), features=4)
    backbone.get_layer("block3_norm").beta.assign([np.inf] * 4)
    with pytest.raises(RuntimeError, match="not finite"):
        export.saved_model(backbone, tmp_path / "diverged")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_export_leaves_no_files(tmp_path, monkeypatch, backbone):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(saved_model_module, "check_parity", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export.saved_model(backbone, tmp_path / "interrupted")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def fast(monkeypatch):
    """Writes no network, for tests of directories."""

    def write(backbone, image_shape, preprocessing, documents, draft, *_):
        (draft / "saved_model.pb").write_text("graph")
        (draft / "backbone.keras").write_text("network")
        for name, text in documents.items():
            (draft / name).write_text(text)

    monkeypatch.setattr(saved_model_module, "_write", write)
    monkeypatch.setattr(saved_model_module, "check_parity", lambda *_: None)


@pytest.mark.usefixtures("fast")
class TestReplacing:
    def test_an_existing_export_is_refused(self, tmp_path, backbone):
        path = export.saved_model(backbone, tmp_path / "a", metrics={"knn": 1})
        with pytest.raises(FileExistsError, match="overwrite=True"):
            export.saved_model(backbone, path, metrics={"knn": 2})
        assert json.loads((path / "metrics.json").read_text()) == {"knn": 1}

    @pytest.mark.parametrize("exchange", [publish.exchange, lambda *_: False])
    def test_an_export_is_replaced_on_request(self, exchange, tmp_path, backbone, monkeypatch):
        monkeypatch.setattr(publish, "exchange", exchange)
        path = export.saved_model(backbone, tmp_path / "a", metrics={"knn": 1})
        export.saved_model(backbone, path, metrics={"knn": 2}, overwrite=True)
        assert json.loads((path / "metrics.json").read_text()) == {"knn": 2}
        assert list(tmp_path.iterdir()) == [path]

    def test_the_old_export_is_restored_if_the_move_fails(self, tmp_path, backbone, monkeypatch):
        path = export.saved_model(backbone, tmp_path / "a", metrics={"knn": 1})
        rename = os.rename

        def fail(source, target):
            if pathlib.Path(target) == path and not str(source).endswith(".replaced"):
                raise OSError("disk is gone")
            rename(source, target)

        monkeypatch.setattr(publish, "exchange", lambda *_: False)
        monkeypatch.setattr(os, "rename", fail)
        with pytest.raises(OSError, match="disk is gone"):
            export.saved_model(backbone, path, metrics={"knn": 2}, overwrite=True)
        assert json.loads((path / "metrics.json").read_text()) == {"knn": 1}
        assert list(tmp_path.iterdir()) == [path]

    def test_another_directory_is_never_replaced(self, tmp_path, backbone):
        home = tmp_path / "home"
        home.mkdir()
        (home / "thesis.tex").write_text("years of work")
        with pytest.raises(FileExistsError, match=r"replaces only exports.*Found: thesis.tex"):
            export.saved_model(backbone, home, overwrite=True)
        assert (home / "thesis.tex").read_text() == "years of work"

    def test_an_export_with_further_files_is_never_replaced(self, tmp_path, backbone):
        path = export.saved_model(backbone, tmp_path / "a")
        (path / "notes.txt").write_text("by hand")
        with pytest.raises(FileExistsError, match=r"notes.txt"):
            export.saved_model(backbone, path, overwrite=True)
        assert (path / "notes.txt").exists()

    def test_a_file_is_never_replaced(self, tmp_path, backbone):
        (tmp_path / "a").write_text("text")
        with pytest.raises(FileExistsError, match="replaces only exports"):
            export.saved_model(backbone, tmp_path / "a", overwrite=True)

    def test_a_link_is_kept(self, tmp_path, backbone):
        path = export.saved_model(backbone, tmp_path / "a", metrics={"knn": 1})
        link = tmp_path / "latest"
        link.symlink_to(path)
        assert export.saved_model(backbone, link, metrics={"knn": 2}, overwrite=True) == link
        assert link.is_symlink()
        assert json.loads((path / "metrics.json").read_text()) == {"knn": 2}

    def test_parents_are_created_with_the_same_permissions(self, tmp_path, backbone):
        path = export.saved_model(backbone, tmp_path / "new" / "a")
        assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(path.parent.stat().st_mode)


def frozen():
    backbone = Tiny((16, 16, 3), features=4)
    backbone.trainable = False
    return backbone


def test_the_advice_for_frozen_models_works(tmp_path):
    backbone = Tiny((16, 16, 3), features=4)
    for layer in backbone.layers:
        layer.trainable = False
    advice = "set `model.trainable = False` and then True"
    with pytest.raises(ValueError, match=advice):
        export.saved_model(backbone, tmp_path / "a")
    backbone.trainable = True  # no change, so Keras does not pass it on to the layers
    with pytest.raises(ValueError, match=advice):
        export.saved_model(backbone, tmp_path / "a")
    backbone.trainable = False
    backbone.trainable = True
    path = export.saved_model(backbone, tmp_path / "a")
    assert len(export.load(path).trainable_weights) == len(Tiny((16, 16, 3)).trainable_weights)


def pooled(images):
    return keras.Model(images, keras.layers.GlobalAveragePooling2D()(images))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: "resnet", TypeError, "`model` must be a keras.Model.*'resnet'"),
        (lambda: keras.Sequential([keras.layers.Dense(2)]), ValueError, "must be built"),
        (frozen, ValueError, "`model` is frozen"),
        (
            lambda: keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)]),
            ValueError,
            "must return features of shape",
        ),
        (
            lambda: keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)]),
            ValueError,
            "must take images of shape",
        ),
        (lambda: pooled(keras.Input(batch_shape=(4, 8, 8, 3))), ValueError, "batches of any size"),
    ],
)
def test_other_models_are_refused(make, error, message, tmp_path):
    with pytest.raises(error, match=message):
        export.saved_model(make(), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_remote_path_is_refused(backbone):
    with pytest.raises(ValueError, match=r"must be a local directory.*path=gs://a"):
        export.saved_model(backbone, "gs://a")


def test_a_strategys_scope_is_refused(tmp_path, monkeypatch, backbone):
    monkeypatch.setattr(saved_model_module.distribute, "replica_count", lambda: 2)
    with pytest.raises(RuntimeError, match="in the scope of 2 replicas"):
        export.saved_model(backbone, tmp_path / "a")


def test_loading_other_directories_is_an_error(tmp_path, exported):
    with pytest.raises(FileNotFoundError, match=r"no export.*path=.*missing"):
        export.load(tmp_path / "missing")
    (tmp_path / "weights.h5").write_text("")
    with pytest.raises(ValueError, match=r"Expected: README.md, backbone.keras.*Found: weights.h5"):
        export.load(tmp_path)


@pytest.mark.large
def test_the_examples_of_the_documentation_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENTATION.read_text(), re.DOTALL)
    for block in blocks:
        exec(block, names)
    assert len(blocks) >= 5
