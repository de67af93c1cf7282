"""Imports of PyTorch networks give PyTorch's features at all stages, and can be exported to PyTorch.

tests/oracles/torch_checkpoints.py wrote the golden files, and describes them.
"""

import gzip
import json
import pathlib
import sys

import keras
import numpy as np
import pytest

from keras_ssl import export, importers
from keras_ssl.backbones import ResNet, SmallResNet

GOLDEN = pathlib.Path(__file__).parents[1] / "oracles" / "golden"
SIZES = {"even": (224, 224), "odd": (193, 161)}
SMALL_SIZES = {"even": (32, 32), "odd": (29, 31)}
STAGES = ("stem", "block1", "block2", "block3", "block4", "features")


def image(height, width):
    """The same image as in tests/oracles/torch_checkpoints.py."""
    y, x, c = np.ogrid[:height, :width, :3]
    return ((7 * y + 13 * x * (c + 1) + 3 * x * y + 29 * c) % 256 / 127.5 - 1).astype("float32")


def corners(feature_map):
    rows, columns = ([0, 1, n // 2, n - 2, n - 1] for n in feature_map.shape[:2])
    return feature_map[np.ix_(rows, columns)]


def stages(backbone, images):
    network = keras.Model(backbone.input, {n: backbone.get_layer(n).output for n in STAGES})
    return {name: np.asarray(value)[0] for name, value in network(images[None]).items()}


def golden():
    with np.load(GOLDEN / "torch_checkpoints.npz") as file:
        return dict(file)


def check(backbone, name, sizes=SIZES):
    expected = golden()
    for size, sides in sizes.items():
        for stage, value in stages(backbone, image(*sides)).items():
            value = corners(value) if value.ndim == 3 else value
            wanted = expected[f"{name}/{size}/{stage}"]
            scale = max(1.0, np.abs(wanted).max())
            np.testing.assert_allclose(value / scale, wanted / scale, atol=1e-4, err_msg=stage)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The golden files, unpacked."""
    folder = tmp_path_factory.mktemp("golden")
    for packed in GOLDEN.glob("*.gz"):
        (folder / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    return folder


@pytest.fixture(scope="module")
def resnet18(files):
    return dict(importers.read_torch(files / "resnet18.pth"))


def test_a_zip_archive_with_torchvisions_names(files):
    backbone = importers.torch_resnet(files / "resnet18.pth")
    assert backbone.name == "resnet18"
    assert backbone.input_shape == (None, None, None, 3)
    check(backbone, "resnet18")


def test_a_stream_of_pickles_in_half_precision_for_small_images(files):
    backbone = importers.torch_resnet(files / "resnet18_small_stem_half.pth")
    check(backbone, "resnet18_small_stem_half", SMALL_SIZES)


def test_timms_resnet_d_in_bfloat16(files):
    check(importers.torch_resnet(files / "resnet18d_bfloat16.pth"), "resnet18d_bfloat16")


def test_a_safetensors_file(files, resnet18):
    tensors = importers.read_safetensors(files / "resnet18.safetensors")
    for name, value in resnet18.items():
        np.testing.assert_array_equal(tensors[name], value)
    check(importers.torch_resnet(files / "resnet18.safetensors"), "resnet18", {"odd": (193, 161)})
    (files / "other.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(ValueError, match="cannot be read as a safetensors file"):
        importers.torch_resnet(files / "other.safetensors")


@pytest.fixture(scope="module")
def moco_checkpoint(files):
    return importers.read_torch(files / "moco_v2.pth.tar")


def test_the_backbone_is_mocos_query_encoder(moco_checkpoint, caplog):
    backbone = importers.moco(moco_checkpoint)
    assert backbone.name == "resnet50"
    assert "CC BY-NC 4.0" in caplog.text
    check(backbone, "moco_v2")


def test_the_whole_moco_is_imported(moco_checkpoint):
    model = importers.moco(moco_checkpoint, whole=True, input_shape=(32, 32, 3))
    assert (model.temperature, model.queue_size) == (0.2, 24)
    state = moco_checkpoint["state_dict"]
    np.testing.assert_array_equal(model.queue.keys, state["module.queue"].T)
    assert int(model.queue.pointer) == 6
    expected = golden()
    projected = model.projector(expected["moco_v2/even/features"][None])[0]
    np.testing.assert_allclose(projected, expected["moco_v2/even/projection"], atol=1e-4)
    key = importers.torch_resnet(
        {k: v for k, v in state.items() if ".encoder_k." in k}, prefix="encoder_k."
    )
    for own, theirs in zip(model.target_backbone.weights, key.weights, strict=True):
        np.testing.assert_array_equal(own, theirs)
        assert not own.trainable
    assert model.target_projector.stack[0].bias.numpy().tolist() == list(
        state["module.encoder_k.fc.0.bias"]
    )


@pytest.mark.large
def test_moco_version_1_is_detected_by_its_head(moco_checkpoint):
    state = dict(moco_checkpoint["state_dict"])
    for which in "qk":
        for name in ("weight", "bias"):
            del state[f"module.encoder_{which}.fc.0.{name}"]
            last = state.pop(f"module.encoder_{which}.fc.2.{name}")
            state[f"module.encoder_{which}.fc.{name}"] = last
    model = importers.moco({"state_dict": state}, whole=True, input_shape=(32, 32, 3))
    assert (model.temperature, model.projector.depth) == (0.07, 1)


def test_moco_without_a_queue_is_refused(moco_checkpoint, resnet18):
    state = {k: v for k, v in moco_checkpoint["state_dict"].items() if "queue" not in k}
    with pytest.raises(ValueError, match="lacks a part of MoCo's state"):
        importers.moco({"state_dict": state}, whole=True, input_shape=(32, 32, 3))
    with pytest.raises(ValueError, match="not a MoCo checkpoint"):
        importers.moco(resnet18)


def test_missing_unexpected_and_misshaped_tensors_are_named(resnet18):
    changed = dict(resnet18)
    kernel = changed.pop("layer2.1.conv1.weight")
    changed["layer2.1.convolution.weight"] = kernel
    changed["layer4.0.bn1.bias"] = np.zeros(7, "float32")
    with pytest.raises(ValueError, match="do not match") as raised:
        importers.torch_resnet(changed)
    message = str(raised.value)
    assert "Expected: 100 tensors" in message
    assert "Received: 100, conv1.weight" in message
    assert "Missing: layer2.1.conv1.weight (4, 4, 3, 3)." in message
    assert "Unexpected: layer2.1.convolution.weight (4, 4, 3, 3)." in message
    assert "Wrong shape: layer4.0.bn1.bias (7,) instead of (16,)." in message


def test_other_networks_are_refused(files, resnet18):
    with pytest.raises(
        ValueError, match=r"not a ResNet that keras_ssl supports.*Received: \[2, 2, 2, 1\]"
    ):
        importers.torch_resnet({k: v for k, v in resnet18.items() if "layer4.1" not in k})
    with pytest.raises(ValueError, match="with torchvision's names"):
        importers.torch_resnet({"features.0.weight": np.ones((8, 3, 3, 3))})
    with pytest.raises(
        ValueError, match=r"finite numbers in the range of float32. Received: bn1.weight"
    ):
        importers.torch_resnet({**resnet18, "bn1.weight": np.full(2, np.nan)})
    with pytest.raises(ValueError, match="No tensor in the state dict has the prefix"):
        importers.torch_resnet(resnet18, prefix="encoder.")
    with pytest.raises(ValueError, match="must have 3 channels"):
        importers.torch_resnet(resnet18, input_shape=(32, 32, 1))
    with pytest.raises(FileNotFoundError, match="no file to import"):
        importers.torch_resnet("nothing.pth")


@pytest.mark.parametrize("name", ["resnet18.pth", "resnet18d_bfloat16.pth"])
def test_exporting_to_pytorch_restores_the_tensors(files, name):
    received = export.torch_state_dict(importers.torch_resnet(files / name))
    expected = {
        k: v for k, v in importers.read_torch(files / name).items() if not k.startswith("fc.")
    }
    assert set(received) == set(expected)
    for key, value in expected.items():
        if not key.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(received[key], value, err_msg=key)
            assert received[key].dtype == "float32"
            assert received[key].flags.c_contiguous
    assert received["bn1.num_batches_tracked"].dtype == "int64"


def test_networks_without_a_counterpart_in_pytorch():
    with pytest.raises(ValueError, match=r"no counterpart for a layer.*'block1_1_select'"):
        export.torch_state_dict(ResNet(50, 0.0625, sk_ratio=0.0625))
    with pytest.raises(ValueError, match="no counterpart for a layer"):
        export.torch_state_dict(SmallResNet())
    with pytest.raises(TypeError, match=r"must be a keras\.Model"):
        export.torch_state_dict("resnet18")


@pytest.mark.large
def test_a_resnet_50_of_full_width_is_exported_and_imported(tmp_path):
    backbone = ResNet(50, input_shape=(64, 64, 3), stem="imagenet")
    again = importers.torch_resnet(export.torch_state_dict(backbone), input_shape=(64, 64, 3))
    images = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype("float32")
    np.testing.assert_array_equal(backbone(images), again(images))
    assert "torch" not in sys.modules
    assert json.dumps(again.get_config()) == json.dumps(backbone.get_config())
