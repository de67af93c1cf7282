"""Imports of BYOL: pickles like those of its code give its features at all stages.

byol_reference.py contains an independent implementation of the reference.
"""

import keras
import numpy as np
import pytest

from keras_ssl import export, importers
from keras_ssl.methods import BYOL
from tests.importers.byol_reference import Reference, write

SIZES = ((224, 224), (193, 161))
STAGES = ("stem", "block1", "block2", "block3", "block4", "features")


def check(backbone, reference, sizes=SIZES):
    network = keras.Model(backbone.input, {n: backbone.get_layer(n).output for n in STAGES})
    for size in sizes:
        x = np.random.default_rng(0).normal(0, 1, (1, *size, 3)).astype("float32")
        expected, received = reference.forward(x), network(x)
        for stage in STAGES:
            wanted = expected[stage].numpy()
            scale = max(1.0, np.abs(wanted).max())
            np.testing.assert_allclose(
                received[stage] / scale, wanted / scale, atol=1e-4, err_msg=f"{stage} {size}"
            )


@pytest.fixture(scope="module")
def references():
    return Reference(18, 4), Reference(18, 4, seed=1)


@pytest.fixture(scope="module")
def path(references, tmp_path_factory):
    path = tmp_path_factory.mktemp("byol") / "pretrain_res18x1.pkl"
    write(path, *references)
    return path


def test_the_backbone_is_the_online_network(path, references, caplog):
    backbone = importers.byol(path)
    assert backbone.name == "resnet18"
    assert "CC BY-NC 4.0: for non-commercial use" in caplog.text
    check(backbone, references[0])
    with pytest.raises(ValueError, match="no counterpart for this network"):
        export.torch_state_dict(backbone)


def test_the_whole_method_is_imported(path, references):
    online, target = references
    model = importers.byol(path, whole=True, input_shape=(193, 161, 3))
    assert isinstance(model, BYOL)
    check(model.backbone, online, SIZES[1:])
    check(model.target_backbone, target, SIZES[1:])
    features = np.random.default_rng(1).normal(size=(3, 32)).astype("float32")
    for own, theirs in ((model.projector, online), (model.target_projector, target)):
        np.testing.assert_allclose(own(features), theirs.mlp("projector", features), atol=1e-4)
    embeddings = features[:, :6]
    np.testing.assert_allclose(
        model.predictor(embeddings), online.mlp("predictor", embeddings), atol=1e-4
    )


@pytest.mark.parametrize(
    ("depth", "first_projection"), [(18, False), pytest.param(50, True, marks=pytest.mark.large)]
)
def test_other_depths_and_projections(tmp_path, depth, first_projection):
    reference = Reference(depth, 4, first_projection)
    write(tmp_path / "pretrain.pkl", reference, reference)
    check(importers.byol(tmp_path / "pretrain.pkl"), reference)


def test_missing_unexpected_and_misshaped_tensors_are_named(tmp_path):
    reference = Reference(18, 4)
    kernel = reference.params.pop("res_net18/~/block_group_1/~/block_0/~/conv_1")
    reference.params["res_net18/~/block_group_1/~/block_0/~/extra"] = kernel
    reference.params["res_net18/~/initial_batchnorm"]["scale"] = np.ones((1, 1, 1, 5), "float32")
    write(tmp_path / "pretrain.pkl", reference, reference)
    with pytest.raises(ValueError, match="do not match") as raised:
        importers.byol(tmp_path / "pretrain.pkl")
    message = str(raised.value)
    assert "Missing: block_group_1/block_0/conv_1/w (3, 3, 8, 8)." in message
    assert "Unexpected: block_group_1/block_0/extra/w (3, 3, 8, 8)." in message
    assert "Wrong shape: initial_batchnorm/scale (5,) instead of (4,)." in message


def test_other_pickles_are_refused(path):
    content = importers.read_pickle(path)
    with pytest.raises(ValueError, match=r"not a BYOL checkpoint.*Received: 'step', 'rng'"):
        importers.byol({"step": content["step"], "rng": content["rng"]})
    state = {"target_params": {}, "online_state": {}, "target_state": {}, "online_params": {3: {}}}
    with pytest.raises(ValueError, match="dictionaries of dictionaries, with names"):
        importers.byol({"experiment_state": state})
    state["online_params"] = {}
    with pytest.raises(ValueError, match="contains no ResNet of BYOL"):
        importers.byol({"experiment_state": state})
