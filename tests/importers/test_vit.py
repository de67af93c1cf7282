"""Vision transformers of timm, DINO, MoCo v3 and MAE.

tests/oracles/timm_vits.py wrote the golden file, and describes it.
"""

import json
import pathlib
import zlib

import keras
import numpy as np
import pytest

from keras_ssl import export, importers
from keras_ssl.backbones import ViT
from keras_ssl.backbones.positions import sincos_positions
from keras_ssl.importers.state_dict import find_vit_prefixes
from tests.importers.test_torch_networks import image

GOLDEN = pathlib.Path(__file__).parents[1] / "oracles" / "golden" / "timm_vits.npz"
SIZES = {"more": (56, 40), "fewer": (24, 16)}
DIM, GRID = 48, 4


def weight(name, shape):
    """The same weights as in tests/oracles/timm_vits.py."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name in ("cls_token", "pos_embed"):
        return rng.normal(0, 0.5, shape).astype("float32")
    if len(shape) > 1:
        return (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype("float32")
    if name.endswith("weight"):
        return rng.uniform(0.5, 1.5, shape).astype("float32")
    return rng.normal(0, 0.2, shape).astype("float32")


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


def state(golden, name="token"):
    shapes = json.loads(str(golden[f"{name}/shapes"]))
    return {key: weight(key, tuple(shape)) for key, shape in shapes.items()}


@pytest.fixture(scope="module")
def tensors(golden):
    return state(golden)


def named(prefix, tensors, add=0):
    return {f"{prefix}{name}": tensor + add for name, tensor in tensors.items()}


def difference(backbone, size, expected):
    features = backbone(image(*size)[None])[0].numpy()
    return np.abs(features - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("pooling", ["token", "mean"])
def test_timms_networks(golden, pooling):
    backbone = importers.torch_vit(state(golden, pooling), heads=4)
    assert backbone.input_shape == (None, None, None, 3)
    assert difference(backbone, (32, 32), golden[f"{pooling}/features"]) < 1e-5
    other = importers.torch_vit(state(golden, pooling), heads=6)  # the wrong number of heads
    assert difference(other, (32, 32), golden[f"{pooling}/features"]) > 0.01


@pytest.mark.parametrize("size", SIZES)
def test_images_of_other_sizes(golden, tensors, size):
    sides = SIZES[size]
    dino = importers.checkpoint({"teacher": named("backbone.", tensors)}, "dino", heads=4)
    assert difference(dino, sides, golden[f"dino/{size}"]) < 1e-4
    assert difference(dino, (32, 32), golden["token/features"]) < 1e-5
    plain = importers.torch_vit(tensors, heads=4, input_shape=(*sides, 3))
    assert difference(plain, sides, golden[f"resized/{size}"]) < 1e-4
    assert difference(plain, sides, golden[f"dino/{size}"]) > 1e-3


def fixed(tensors, row_first):
    """The tensors with fixed position embeddings, as those of MAE or MoCo v3."""
    table = sincos_positions(GRID, GRID, DIM).reshape(GRID, GRID, DIM)
    table = np.swapaxes(table, 0, 1) if row_first else table
    table = np.concatenate([np.zeros((1, DIM), "float32"), table.reshape(-1, DIM)])
    return {**tensors, "pos_embed": table[None]}


ONES = np.ones((4, 4), "float32")
# The tensors of each method, from their authors' code: see the sources of `importers.checkpoint`.
CHECKPOINTS = {
    "dino": lambda network, other: {
        "student": {**named("module.backbone.", other), "module.head.mlp.0.weight": ONES},
        "teacher": {**named("backbone.", network), "head.mlp.0.weight": ONES},
        "dino_loss": {"center": np.zeros((1, 8), "float32")},
        "epoch": 3,
    },
    "moco-v3": lambda network, other: {
        "arch": "vit_small",
        "state_dict": {
            **named("module.base_encoder.", network),
            "module.base_encoder.head.0.weight": ONES,
            **named("module.momentum_encoder.", other),
            "module.predictor.0.weight": ONES,
        },
    },
    "mae": lambda network, other: {
        "model": {
            **network,
            "mask_token": np.zeros((1, 1, 8), "float32"),
            "decoder_pos_embed": np.zeros((1, 17, 8), "float32"),
            "decoder_embed.weight": ONES,
            "decoder_blocks.0.attn.qkv.weight": ONES,
            "decoder_norm.weight": ONES[0],
            "decoder_pred.weight": ONES,
        },
    },
}


@pytest.mark.parametrize("method", CHECKPOINTS)
def test_checkpoints(method, tensors, caplog):
    network = tensors if method == "dino" else fixed(tensors, method == "moco-v3")
    file = CHECKPOINTS[method](network, named("", network, add=1))
    backbone = importers.checkpoint(file, method, heads=4)
    layers = {layer.name: layer for layer in backbone.layers}
    tokens = layers["tokens"]
    np.testing.assert_array_equal(tokens.class_token, network["cls_token"])
    np.testing.assert_array_equal(tokens.embeddings, network["pos_embed"])
    assert tokens.embeddings.trainable == (method == "dino")
    assert tokens.resize_offset == (0.1 if method == "dino" else 0)
    np.testing.assert_array_equal(
        layers["block2_dense2"].kernel, network["blocks.1.mlp.fc2.weight"].T
    )
    assert ("CC BY-NC 4.0" in caplog.text) == (method != "dino")
    assert "attention heads" not in caplog.text
    alone = importers.checkpoint(network, method, heads=4)
    for mine, theirs in zip(alone.weights, backbone.weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def wide(tensors, dim):
    """One block of another width."""
    shapes = {
        name: tuple({48: dim, 144: 3 * dim, 192: 4 * dim}.get(n, n) for n in tensor.shape)
        for name, tensor in tensors.items()
        if not name.startswith("blocks.1.")
    }
    return {name: np.zeros(shape, "float32") for name, shape in shapes.items()}


def test_the_number_of_heads_is_that_of_published_networks(tensors, caplog):
    def heads(backbone):
        return backbone.get_layer("block1_attention").heads

    small = wide(tensors, 384)
    small["pos_embed"][:] = 0.1
    assert heads(importers.checkpoint(small, "dino")) == 6
    assert heads(importers.checkpoint(small, "moco-v3")) == 12
    assert "attention heads" not in caplog.text
    assert heads(importers.torch_vit(small)) == 6
    assert "taken to have 6 attention heads" in caplog.text
    table = sincos_positions(GRID, GRID, 384).reshape(GRID, GRID, 384).swapaxes(0, 1)
    small["pos_embed"][:] = np.pad(table.reshape(-1, 384), [(1, 0), (0, 0)])
    assert heads(importers.torch_vit(small)) == 12
    assert "taken to have 12 attention heads" in caplog.text
    assert heads(importers.torch_vit(small, heads=8)) == 8
    with pytest.raises(ValueError, match=r"do not tell the number of .*--heads.* width of 48"):
        importers.torch_vit(tensors)


def test_wrappers_and_prefixes(golden, tensors, caplog):
    file = {
        **named("module.backbone._orig_mod.", tensors),
        **named("momentum_backbone.", tensors, add=1),
        "classifier.weight": ONES,
    }
    backbone = importers.torch_vit({"state_dict": file}, heads=4)
    assert "prefix 'backbone.', not 'momentum_backbone.'" in caplog.text
    assert difference(backbone, (32, 32), golden["token/features"]) < 1e-5
    other = importers.torch_vit(file, prefix="momentum_backbone.", heads=4)
    np.testing.assert_array_equal(other.get_layer("tokens").class_token, tensors["cls_token"] + 1)
    assert find_vit_prefixes(CHECKPOINTS["mae"](tensors, {})["model"]) == [""]


def test_other_networks_are_refused(tensors):
    with pytest.raises(
        ValueError, match=r"contains a vision transformer.*torch_vit` \(--kind vit\)"
    ):
        importers.torch_resnet(tensors)
    with pytest.raises(
        ValueError, match=r"not a plain vision transformer .*Received: conv1.weight"
    ):
        importers.torch_vit({"conv1.weight": np.ones((8, 3, 7, 7), "float32")})
    with pytest.raises(ValueError, match=r"Unexpected: blocks\.0\.ls1\.gamma \(48,\)"):
        importers.torch_vit({**tensors, "blocks.0.ls1.gamma": np.ones(48, "float32")}, heads=4)
    distilled = {**tensors, "pos_embed": np.zeros((1, 18, 48), "float32")}
    with pytest.raises(
        ValueError, match=r"a square of patches. Received: .* 18 position embeddings"
    ):
        importers.torch_vit(distilled, heads=4)
    with pytest.raises(ValueError, match=r"must have 3 channels.*\(32, 32, 1\)"):
        importers.torch_vit(tensors, input_shape=(32, 32, 1), heads=4)
    with pytest.raises(
        ValueError, match=r"not a checkpoint of simsiam. Expected: .*encoder\.blocks"
    ):
        importers.checkpoint(named("backbone.", tensors), "simsiam")
    resnet = {"layer1.0.conv1.weight": np.ones((8, 8, 3, 3), "float32")}
    with pytest.raises(ValueError, match=r"`heads` goes with vision transformers"):
        importers.checkpoint(resnet, "dino", heads=4)


@pytest.mark.parametrize("pooling", ["token", "mean"])
def test_exporting_to_timm_restores_the_tensors(golden, pooling):
    expected = state(golden, pooling)
    received = export.torch_state_dict(importers.torch_vit(expected, heads=4))
    assert received.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(received[name], tensor, err_msg=name)
        assert received[name].dtype == "float32"
        assert received[name].flags.c_contiguous


def write_safetensors(file, tensors):
    header, start = {}, 0
    for name, tensor in tensors.items():
        offsets = [start, start := start + tensor.nbytes]
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": offsets}
    text = json.dumps(header).encode()
    content = b"".join(tensor.tobytes() for tensor in tensors.values())
    file.write_bytes(len(text).to_bytes(8, "little") + text + content)


@pytest.mark.parametrize(
    ("positions", "pooling"), [("learned", "token"), ("sincos", "mean"), ("learned", "mean")]
)
def test_an_exported_network_has_the_same_features(positions, pooling, tmp_path):
    backbone = ViT(8, 48, 2, 4, (32, 32, 3), positions=positions, pooling=pooling)
    random = np.random.default_rng(0)
    for variable in backbone.trainable_weights:  # biases are zero before training
        variable.assign_add(random.normal(0, 0.1, variable.shape))
    write_safetensors(tmp_path / "vit.safetensors", export.torch_state_dict(backbone))
    again = importers.torch_vit(tmp_path / "vit.safetensors", heads=4, input_shape=(32, 32, 3))
    images = random.normal(size=(2, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(again(images), backbone(images), atol=1e-6)
    assert len(again.trainable_weights) == len(backbone.trainable_weights)


def test_other_vision_transformers_are_not_exported():
    backbone = ViT(8, 48, 1, 4, (32, 32, 3))
    classifier = keras.Model(backbone.input, keras.layers.Dense(2, name="head")(backbone.output))
    with pytest.raises(ValueError, match=r"no counterpart .* ends in 'head', with \['head'\]"):
        export.torch_state_dict(classifier)
    unit = keras.layers.UnitNormalization(name="unit")(backbone.output)
    with pytest.raises(ValueError, match=r"ends in 'unit', with no further weights"):
        export.torch_state_dict(keras.Model(backbone.input, unit))
