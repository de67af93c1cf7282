"""Imports of SimCLR: files like those of google-research/simclr give its features at all stages.

simclr_reference.py contains an independent implementation of the reference.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import export, importers
from keras_ssl.methods import SimCLR
from tests.importers.simclr_reference import Reference

SIZES = ((224, 224), (193, 161))
SMALL_SIZES = ((32, 32), (29, 31))
STAGES = ("stem", "block1", "block2", "block3", "block4", "features")


def images(height, width):
    return np.random.default_rng(0).uniform(0, 1, (1, height, width, 3)).astype("float32")


def check(backbone, reference, sizes=SIZES):
    network = keras.Model(backbone.input, {n: backbone.get_layer(n).output for n in STAGES})
    for size in sizes:
        x = images(*size)
        expected, received = reference.forward(x), network(x)
        for stage in STAGES:
            wanted = expected[stage].numpy()
            scale = max(1.0, np.abs(wanted).max())
            np.testing.assert_allclose(
                received[stage] / scale, wanted / scale, atol=1e-4, err_msg=f"{stage} {size}"
            )


def check_head(model, reference):
    units = model.backbone.output_shape[-1]
    features = np.random.default_rng(1).normal(size=(2, units)).astype("float32")
    np.testing.assert_allclose(
        model.projector(features), reference.project(features), atol=1e-4, rtol=1e-4
    )


def write(reference, folder, kind):
    """Writes a file of a kind, and returns the path to import."""
    if kind == "checkpoint of TensorFlow 1":
        reference.write_tf1(folder / "model.ckpt-250228")
        return folder / "model.ckpt-250228"
    if kind == "hub module":
        (folder / "variables").mkdir()
        reference.write_tf1(folder / "variables" / "variables")
    elif kind == "checkpoint of TensorFlow 2":
        reference.write_tf2(folder / "ckpt-7")
    else:
        reference.write_saved_model(folder / "model", writes=folder / "harm")
        return folder / "model"
    return folder


CASES = [
    (18, 0, False, "saved model", SIZES),
    (18, 0.0625, False, "checkpoint of TensorFlow 2", SIZES[1:]),
    (18, 0, True, "checkpoint of TensorFlow 1", SMALL_SIZES),
    (50, 0.0625, False, "hub module", SIZES[1:]),
]
LARGE_CASES = [
    (50, 0, False, "checkpoint of TensorFlow 1", SIZES),
    (50, 0, False, "saved model", SIZES),
    (50, 0.0625, False, "checkpoint of TensorFlow 2", SIZES),
    (50, 0.0625, False, "saved model", SIZES),
    (50, 0.0625, True, "checkpoint of TensorFlow 1", SMALL_SIZES),
    (34, 0, False, "checkpoint of TensorFlow 1", SIZES),
    (101, 0.0625, False, "hub module", SIZES),
]


@pytest.mark.parametrize(
    ("depth", "sk_ratio", "small", "kind", "sizes"),
    [*CASES, *(pytest.param(*case, marks=pytest.mark.large) for case in LARGE_CASES)],
)
def test_features_equal_those_of_the_reference(tmp_path, depth, sk_ratio, small, kind, sizes):
    hidden = (32 if depth < 50 else 128,)
    reference = Reference(depth, 4, sk_ratio, small, head=(*hidden * (2 if sk_ratio else 1), 16))
    path = write(reference, tmp_path, kind)
    model = importers.simclr(path, whole=True, input_shape=(None, None, 3))
    assert isinstance(model, SimCLR)
    assert model.backbone.name == f"resnet{depth}"
    assert (model.projector.depth, model.projector.units) == (3 if sk_ratio else 2, 16)
    check(model.backbone, reference, sizes)
    check_head(model, reference)
    # The graph of the SavedModel would write these files; it was not run.
    assert not list(tmp_path.glob("harm*"))
    # PyTorch would compute other features.
    with pytest.raises(ValueError, match="no counterpart for"):
        export.torch_state_dict(model.backbone)


def test_missing_unexpected_and_misshaped_tensors_are_named(tmp_path):
    reference = Reference(18, 4)
    kernel = reference.tensors.pop("base_model/batch_normalization_3/gamma")
    reference.tensors["base_model/batch_normalization_3/factor"] = kernel
    reference.tensors["base_model/batch_normalization_5/beta"] = np.zeros(7, "float32")
    reference.write_tf1(tmp_path / "ckpt-1")
    with pytest.raises(ValueError, match="do not match") as raised:
        importers.simclr(tmp_path)
    message = str(raised.value)
    assert "Expected: 105 tensors" in message
    assert "Missing: base_model/batch_normalization_3/gamma (4,)." in message
    assert "Unexpected: base_model/batch_normalization_3/factor (4,)." in message
    assert "Wrong shape: base_model/batch_normalization_5/beta (7,) instead of (4,)." in message


def test_other_checkpoints_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="prefix of one checkpoint"):
        importers.simclr(tmp_path)
    reference = Reference(18, 4)
    reference.write_tf1(tmp_path / "ckpt-1")
    with pytest.raises(ValueError, match="no projection head"):
        importers.simclr(tmp_path / "ckpt-1", whole=True, input_shape=(32, 32, 3))
    tf.train.Checkpoint(step=tf.Variable(1)).write(str(tmp_path / "other"))
    with pytest.raises(ValueError, match="Expected: an object `model` with a `resnet_model`"):
        importers.simclr(tmp_path / "other")
    del reference.tensors["base_model/conv2d_4/kernel"]
    reference.write_tf1(tmp_path / "ckpt-2")
    with pytest.raises(ValueError, match=r"21 \(ResNet-18\).*Received: 20 in base_model"):
        importers.simclr(tmp_path / "ckpt-2")


def test_a_layer_that_is_used_twice_is_refused(tmp_path):
    reference = Reference(18, 4)
    group = reference.model.resnet_model.block_groups[0]
    group.layers = [group.layers[0]] * 2
    reference.write_tf2(tmp_path / "ckpt-1")
    with pytest.raises(ValueError, match="uses the same layer twice"):
        importers.simclr(tmp_path)


def test_a_truncated_checkpoint_is_refused(tmp_path):
    Reference(18, 4).write_tf1(tmp_path / "ckpt-1")
    (data,) = tmp_path.glob("*.data-*")
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(ValueError, match="truncated, or declares wrong sizes"):
        importers.simclr(tmp_path)
    (tmp_path / "ckpt-1.index").write_bytes(b"not an index")
    with pytest.raises(ValueError, match="not a complete TensorFlow checkpoint"):
        importers.simclr(tmp_path)
