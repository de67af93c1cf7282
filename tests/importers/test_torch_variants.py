"""Variants of ResNets in PyTorch: ResNet-D with bottlenecks, strides of "v1", stems of solo-learn.

tests/oracles/timm_resnets.py wrote the golden file, and describes it.
"""

import json
import pathlib
import zlib

import keras
import numpy as np
import pytest

from keras_ssl import export, importers
from keras_ssl.backbones import ResNet
from keras_ssl.importers.torchvision import _default_stride
from tests.importers.test_torch_networks import corners, image, stages

GOLDEN = pathlib.Path(__file__).parents[1] / "oracles" / "golden" / "timm_resnets.npz"
SIZES = {"even": (96, 96), "odd": (77, 61)}
SMALL_SIZES = {"even": (32, 32), "odd": (29, 31)}


def weight(name, shape):
    """The same weights as in tests/oracles/timm_resnets.py."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if len(shape) > 1:
        return (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype("float32")
    if name.endswith(("weight", "running_var")):
        return rng.uniform(0.5, 1.5, shape).astype("float32")
    return rng.normal(0, 0.2, shape).astype("float32")


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


def state(golden, name):
    shapes = json.loads(str(golden[f"{name}/shapes"]))
    return {key: weight(key, tuple(shape)) for key, shape in shapes.items()}


def largest_difference(backbone, golden, name, sizes=SIZES):
    """The largest difference of a feature, relative to the largest value of its stage above 1."""
    differences = []
    for size, sides in sizes.items():
        for stage, value in stages(backbone, image(*sides)).items():
            value = corners(value) if value.ndim == 3 else value
            wanted = golden[f"{name}/{size}/{stage}"]
            differences.append(np.abs(value - wanted).max() / max(1.0, np.abs(wanted).max()))
    return max(differences)


def test_timms_resnet50d(golden):
    tensors = state(golden, "resnet50d")
    backbone = importers.torch_resnet(tensors)
    assert largest_difference(backbone, golden, "resnet50d") < 1e-4
    exported = export.torch_state_dict(backbone)
    assert set(exported) == set(tensors)
    np.testing.assert_array_equal(
        exported["layer2.0.downsample.1.weight"], tensors["layer2.0.downsample.1.weight"]
    )


def test_resnet_d_without_selective_kernels():
    names = {layer.name for layer in ResNet(50, 0.0625, resnet_d=True).layers}
    assert not any("select" in name for name in names)
    pools = sorted(name for name in names if name.endswith("_shortcut_pool"))
    assert pools == [f"block{stage}_1_shortcut_pool" for stage in (2, 3, 4)]
    large = ResNet(50, 0.0625, resnet_d=True, stem="imagenet")
    assert large.get_layer("stem_conv3").kernel_size == (3, 3)
    # With selective kernels, shortcuts are also averaged where they have no stride, as before.
    selective = {layer.name for layer in ResNet(50, 0.0625, sk_ratio=0.0625).layers}
    assert "block1_1_shortcut_pool" in selective


def test_a_small_stem_with_resnet_ds_shortcuts_is_exported_and_imported():
    backbone = ResNet(18, 0.0625, resnet_d=True)
    weights = export.torch_state_dict(backbone)
    assert weights["layer2.0.downsample.1.weight"].ndim == 4
    again = importers.torch_resnet(weights, input_shape=(32, 32, 3))
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    np.testing.assert_array_equal(backbone(images), again(images))


def test_strides_in_the_first_convolution(golden, caplog):
    tensors = state(golden, "resnet50_v1")
    backbone = importers.torch_resnet(tensors, stride_in="1x1")
    assert caplog.text == ""
    assert largest_difference(backbone, golden, "resnet50_v1") < 1e-4
    with pytest.raises(ValueError, match=r"other padding or strides.*block2_1_conv1"):
        export.torch_state_dict(backbone)
    again = keras.models.clone_model(backbone)  # the strides are part of its layers
    again.set_weights(backbone.get_weights())
    assert largest_difference(again, golden, "resnet50_v1") < 1e-4
    other = importers.torch_resnet(tensors)
    assert "strides are taken to be in the 3x3 convolutions" in caplog.text
    assert largest_difference(other, golden, "resnet50_v1") > 0.01


def test_biases_of_convolutions_are_absorbed(golden):
    tensors = state(golden, "resnet50_v1")
    changed = dict(tensors)
    for conv, mean in (
        ("conv1", "bn1"),
        ("layer1.0.conv2", "layer1.0.bn2"),
        ("layer3.0.downsample.0", "layer3.0.downsample.1"),
    ):
        bias = weight(f"{conv}.bias", changed[f"{mean}.running_mean"].shape)
        changed[f"{conv}.bias"] = bias
        changed[f"{mean}.running_mean"] = changed[f"{mean}.running_mean"] + bias
    with pytest.raises(ValueError, match=r"do not tell \(biases of convolutions\).*--stride-in"):
        importers.torch_resnet(changed)
    backbone = importers.torch_resnet(changed, stride_in="1x1")
    assert largest_difference(backbone, golden, "resnet50_v1") < 1e-4


def test_networks_that_may_have_other_strides_are_asked_for(golden, tmp_path):
    tensors = state(golden, "resnet50_v1")
    frozen = {
        name: np.full_like(value, name.endswith("var")) if "running" in name else value
        for name, value in tensors.items()
    }
    with pytest.raises(ValueError, match="normalization without statistics"):
        importers.torch_resnet(frozen)
    assert importers.torch_resnet(frozen, stride_in="3x3").name == "resnet50"
    untrained = {k: np.zeros_like(v) if k.endswith("bias") else v for k, v in frozen.items()}
    assert importers.torch_resnet(untrained).name == "resnet50"
    for name in ("resnet50_caffe.pth", "Keras-resnet50.pth", "resnet50_msra.pth"):
        with pytest.raises(ValueError, match=r"do not tell \(the file name\)"):
            _default_stride(tensors, str(tmp_path / "keras" / name))
    for name in ("resnet50.pth", "keras_ssl-resnet50.pth"):
        assert _default_stride(tensors, str(tmp_path / "keras" / name)) == "3x3"
    with pytest.raises(ValueError, match=r"must be '3x3', '1x1' or None\. Received"):
        importers.torch_resnet(tensors, stride_in=2)


def test_the_stem_of_solo_learn(golden, caplog):
    tensors = state(golden, "resnet18_padding_2")
    checkpoint = {
        "pytorch-lightning_version": "2.0.0",
        "state_dict": {
            **{f"backbone.{name}": value for name, value in tensors.items()},
            **{f"momentum_backbone.{name}": value + 1 for name, value in tensors.items()},
            "classifier.weight": np.ones((10, 32), "float32"),
            "projector.0.weight": np.ones((8, 32), "float32"),
        },
    }
    backbone = importers.torch_resnet(checkpoint)
    assert largest_difference(backbone, golden, "resnet18_padding_2", SMALL_SIZES) < 1e-4
    assert "prefix 'backbone.', not 'momentum_backbone.'" in caplog.text
    assert "taken to be of solo-learn" in caplog.text
    with pytest.raises(ValueError, match="stem_extra_pad"):
        export.torch_state_dict(backbone)
    asked = importers.torch_resnet(tensors, stem_padding=2)
    assert largest_difference(asked, golden, "resnet18_padding_2", SMALL_SIZES) < 1e-4
    usual = importers.torch_resnet(tensors)
    assert largest_difference(usual, golden, "resnet18_padding_2", SMALL_SIZES) > 0.01
    with pytest.raises(ValueError, match="must be 1, 2 or None"):
        importers.torch_resnet(tensors, stem_padding=3)


def names_of_torchvision(network):
    """The weights of a ResNet of keras.applications, as a conversion to PyTorch would name them."""
    kinds = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "bias": "bias"}
    tensors = {}
    for layer in network.layers:
        if not layer.weights:
            continue
        stage, block, number, kind = ([*layer.name.split("_"), "", ""])[:4]
        if stage == "conv1":
            name = "conv1" if block == "conv" else "bn1"
        elif number == "0":
            name = f"downsample.{int(kind == 'bn')}"
        else:
            name = f"{kind}{number}"
        if stage != "conv1":
            name = f"layer{int(stage[-1]) - 1}.{int(block.removeprefix('block')) - 1}.{name}"
        for variable in layer.weights:
            value = variable.numpy()
            last = kinds.get(variable.name, "running_var")
            if variable.name == "kernel":
                last, value = "weight", value.transpose(3, 2, 0, 1)
            tensors[f"{name}.{last}"] = value
    return tensors


@pytest.mark.large
def test_a_resnet_50_of_keras_applications():
    network = keras.applications.ResNet50(weights=None, include_top=False, pooling="avg")
    rng = np.random.default_rng(0)
    for variable in network.weights:
        if len(variable.shape) == 1:
            low, high = (0.5, 1.5) if variable.name in ("gamma", "moving_variance") else (-0.2, 0.2)
            variable.assign(rng.uniform(low, high, variable.shape))
    tensors = names_of_torchvision(network)
    with pytest.raises(ValueError, match="biases of convolutions"):
        importers.torch_resnet(tensors)
    images = rng.uniform(-1, 1, (2, 97, 128, 3)).astype("float32")
    expected = network(images).numpy()
    scale = np.abs(expected).max()
    right = importers.torch_resnet(tensors, stride_in="1x1")(images).numpy()
    np.testing.assert_allclose(right / scale, expected / scale, atol=1e-5)
    wrong = importers.torch_resnet(tensors, stride_in="3x3")(images).numpy()
    assert np.abs(wrong - expected).max() / scale > 0.03
