"""The network is found in checkpoints of whole methods and in those of wrapped networks."""

import numpy as np
import pytest

from keras_ssl import export, importers
from keras_ssl.backbones import ResNet
from keras_ssl.importers.state_dict import select_network, state_dict


@pytest.fixture(scope="module")
def backbone():
    backbone = ResNet(18, 0.0625, stem="imagenet", input_shape=(32, 32, 3))
    rng = np.random.default_rng(0)
    backbone.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in backbone.weights])
    return backbone


@pytest.fixture(scope="module")
def tensors(backbone):
    """The network as torchvision names it, with a classifier."""
    return {**export.torch_state_dict(backbone), "fc.weight": np.ones((10, 32), "float32")}


def named(prefix, tensors, add=0):
    return {f"{prefix}{name}": tensor + add for name, tensor in tensors.items()}


def numbered(tensors, first):
    """The names of `nn.Sequential(*resnet.children())`, whose blocks start at number `first`."""
    roots = {"conv1": "0", "bn1": "1", **{f"layer{n + 1}": str(first + n) for n in range(4)}}
    return {
        f"{roots[name.split('.')[0]]}.{name.partition('.')[2]}": tensor
        for name, tensor in tensors.items()
        if not name.startswith("fc.")
    }


def check(found, tensors):
    for name, tensor in tensors.items():
        if not name.startswith("fc."):
            np.testing.assert_array_equal(found[name], tensor, err_msg=name)


# Prefixes of the tensors in the file, and the prefix that is logged; None: nothing is said.
PREFIXES = {
    "": None,
    "module.": None,  # DataParallel
    "_orig_mod.": None,  # torch.compile
    "module._orig_mod.": None,
    "_orig_mod.module.": None,
    "module.module.": None,  # a weight average of DataParallel
    "backbone.": "backbone.",
    "backbone._orig_mod.": "backbone.",
    "module.backbone.": "backbone.",
    "model.": "model.",
    "encoder.": "encoder.",
    "student.backbone.": "student.backbone.",
    "model.student.backbone.module.": "model.student.backbone.",
}


@pytest.mark.parametrize("prefix", PREFIXES)
def test_wrappers_and_prefixes(prefix, tensors, caplog):
    file = {
        **named(prefix, tensors),
        "n_averaged": np.array(3),
        "projector.0.weight": np.ones((4, 4), "float32"),
    }
    check(select_network(*state_dict({"state_dict": file})), tensors)
    expected = PREFIXES[prefix]
    if expected is None:
        assert caplog.text == ""
    else:
        assert f"reading the network with the prefix {expected!r}." in caplog.text
        assert "--prefix" in caplog.text


@pytest.mark.parametrize(
    ("leader", "follower"),
    [
        ("backbone.", "momentum_backbone."),  # solo-learn
        ("backbone.", "backbone_momentum."),  # lightly
        ("student_backbone.", "teacher_backbone."),
        ("student.backbone.", "teacher.backbone."),
        ("encoder_q.", "encoder_k."),
        ("online_network.", "target_network."),
        ("model.", "ema_model."),
    ],
)
def test_the_network_that_leads_is_taken(leader, follower, tensors, caplog):
    file = {**named(leader, tensors), **named(follower, tensors, add=1)}
    check(select_network(*state_dict(file)), tensors)
    assert f"prefix {leader!r}, not {follower!r}." in caplog.text
    found = select_network(*state_dict(file), prefix=follower)
    np.testing.assert_array_equal(found["conv1.weight"], tensors["conv1.weight"] + 1)


def test_a_prefix_may_contain_the_names_of_wrappers(tensors):
    file = {**named("module.a.", tensors), **named("module.b._orig_mod.", tensors, add=1)}
    for prefix in ("b.", "module.b.", "module.b._orig_mod."):
        found = select_network(*state_dict(file), prefix=prefix)
        np.testing.assert_array_equal(found["conv1.weight"], tensors["conv1.weight"] + 1)


def test_several_networks_are_asked_for(tensors):
    file = {**named("a.", tensors), **named("b.", tensors)}
    with pytest.raises(ValueError, match=r"several networks.*--prefix.*networks with 'a\.', 'b\.'"):
        select_network(*state_dict(file))
    with pytest.raises(ValueError, match=r"differ only by 'module\.' or '_orig_mod\.'"):
        state_dict({**tensors, **named("module.", tensors)})


@pytest.mark.parametrize("first", [2, 4])
def test_numbered_layers(first, tensors):
    file = named("backbone.", numbered(tensors, first))
    check(select_network(*state_dict(file)), tensors)
    check(select_network(*state_dict(numbered(tensors, first))), tensors)


def test_lightlys_shortcuts(tensors):
    shortcut = {name.replace("downsample", "shortcut"): value for name, value in tensors.items()}
    file = named("backbone.", numbered(shortcut, 2))
    assert any(".shortcut." in name for name in file)
    check(select_network(*state_dict(file)), tensors)


def test_several_state_dicts(tensors, caplog):
    file = {
        "student": named("module.backbone.", tensors),
        "teacher": named("backbone.", tensors, add=1),
        "optimizer": {"state": {}, "param_groups": []},
        "dino_loss": {"center": np.zeros((1, 8), "float32")},
        "epoch": 3,
    }
    check(select_network(*state_dict(file)), tensors)
    assert "prefix 'student.backbone.', not 'teacher.backbone.'." in caplog.text
    found = select_network(*state_dict(file), prefix="teacher.backbone.")
    np.testing.assert_array_equal(found["conv1.weight"], tensors["conv1.weight"] + 1)


def test_a_backbone_is_built_from_a_lightning_checkpoint(backbone, tensors):
    file = {
        "epoch": 9,
        "state_dict": {
            **named("model.backbone.", numbered(tensors, 4)),
            **named("model.backbone_momentum.", numbered(tensors, 4), add=1),
            "model.projection_head.layers.0.weight": np.ones((4, 4), "float32"),
        },
        "optimizer_states": [{"state": {}}],
    }
    imported = importers.torch_resnet(file, input_shape=(32, 32, 3))
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    np.testing.assert_array_equal(imported(images), backbone(images))


# The tensors of each method, from their authors' code: see the sources of `importers.checkpoint`.
CHECKPOINTS = {
    "simsiam": lambda network, other: {
        "epoch": 100,
        "arch": "resnet50",
        "state_dict": {
            **named("module.encoder.", network),
            "module.encoder.fc.0.weight": np.ones((4, 4), "float32"),
            "module.predictor.0.weight": np.ones((4, 4), "float32"),
        },
    },
    "barlow-twins": lambda network, other: {
        "epoch": 1000,
        "model": {
            **named("module.backbone.", network),
            "module.projector.0.weight": np.ones((4, 4), "float32"),
            "module.bn.running_mean": np.ones(4, "float32"),
        },
        "optimizer": {"state": {}},
    },
    "vicreg": lambda network, other: {
        "epoch": 1000,
        "model": {
            **named("module.backbone.", network),
            "module.projector.0.bias": np.ones(4, "float32"),
        },
    },
    "swav": lambda network, other: {
        **named("module.", network),
        "module.projection_head.0.weight": np.ones((4, 4), "float32"),
        "module.prototypes.weight": np.ones((4, 4), "float32"),
    },
    "dino": lambda network, other: {
        "student": {
            **named("module.backbone.", other),
            "module.head.mlp.0.weight": np.ones((4, 4)),
        },
        "teacher": {**named("backbone.", network), "head.mlp.0.weight": np.ones((4, 4))},
        "dino_loss": {"center": np.zeros((1, 8), "float32")},
    },
    "moco-v3": lambda network, other: {
        "arch": "resnet50",
        "state_dict": {
            **named("module.base_encoder.", network),
            "module.base_encoder.fc.0.weight": np.ones((4, 4), "float32"),
            **named("module.momentum_encoder.", other),
            "module.predictor.0.weight": np.ones((4, 4), "float32"),
        },
    },
}


@pytest.mark.parametrize("method", CHECKPOINTS)
def test_checkpoints_of_other_methods(method, backbone, tensors, caplog):
    network = {name: value for name, value in tensors.items() if not name.startswith("fc.")}
    other = named("", network, add=1)
    imported = importers.checkpoint(CHECKPOINTS[method](network, other), method, (32, 32, 3))
    for mine, theirs in zip(imported.weights, backbone.weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert ("CC BY-NC 4.0" in caplog.text) == (method not in ("vicreg", "dino"))


@pytest.mark.parametrize("method", ["barlow-twins", "vicreg", "dino"])
def test_networks_that_were_published_alone(method, backbone, tensors):
    imported = importers.checkpoint(tensors, method, (32, 32, 3))
    np.testing.assert_array_equal(imported.weights[0], backbone.weights[0])


def test_checkpoints_of_another_method_are_refused(tensors):
    with pytest.raises(
        ValueError, match=r"not a checkpoint of simsiam. Expected: .*encoder\.layer1"
    ):
        importers.checkpoint(named("backbone.", tensors), "simsiam")
    with pytest.raises(ValueError, match=r"must be one of simsiam, barlow-twins, .*'simclr'"):
        importers.checkpoint(tensors, "simclr")
