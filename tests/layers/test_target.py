"""Target networks: frozen variables, batch statistics, and momentum updates."""

import keras
import numpy as np
import pytest

from keras_ssl.backbones import ResNet, Tiny
from keras_ssl.layers import MLPHead, momentum_update, target_network, target_pairs

SHAPE = (8, 8, 3)


def values_of(network):
    return [np.asarray(weight).copy() for weight in network.weights]


def images(seed=0):
    return np.random.default_rng(seed).random((4, *SHAPE), np.float32)


def built_head():
    head = MLPHead(6, 10, batch_norm=True, name="projector")
    head.build((None, 5))
    return head


NETWORKS = {
    "tiny": lambda: Tiny(SHAPE, features=16),
    "resnet": lambda: ResNet(18, width=0.125, input_shape=SHAPE),
    "selective_kernel": lambda: ResNet(18, width=0.125, sk_ratio=0.0625, input_shape=SHAPE),
    "head": built_head,
    "sequential": lambda: keras.Sequential(
        [keras.Input((5,)), keras.layers.Dense(3), keras.layers.BatchNormalization()]
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_is_a_frozen_copy(name):
    online = NETWORKS[name]()
    random = np.random.default_rng(0)
    online.set_weights([random.normal(size=weight.shape) for weight in online.weights])
    before = values_of(online)
    trainable = [weight.path for weight in online.trainable_weights]

    target = target_network(online)
    assert type(target) is type(online)
    assert target.name == f"target_{online.name}"
    for theirs, own in zip(online.weights, target.weights, strict=True):
        assert theirs is not own
        np.testing.assert_array_equal(theirs, own)
    assert target.trainable_variables == []
    assert [weight.path for weight in online.trainable_weights] == trainable

    target.set_weights([0 * weight for weight in before])
    for weight, old in zip(online.weights, before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_takes_a_name():
    assert target_network(built_head(), name="slow").name == "slow"


def test_normalizes_with_batch_statistics():
    online = Tiny(SHAPE, features=16)
    target = target_network(online)
    before = values_of(target)
    features = target(images(), training=True)
    np.testing.assert_allclose(features, online(images(), training=True), atol=1e-6)
    assert np.abs(features - target(images(), training=False)).max() > 1e-2
    for weight, old in zip(target.weights, before, strict=True):
        assert weight.name.startswith("moving_") != np.array_equal(weight, old)


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.999, 1.0])
def test_moves_parameters_as_a_moving_average(momentum):
    online = Tiny(SHAPE, features=16)
    target = target_network(online)
    random = np.random.default_rng(0)
    for network in (online, target):
        network.set_weights([random.uniform(1, 2, weight.shape) for weight in network.weights])
    theirs, own = values_of(online), values_of(target)
    momentum_update(target, online, momentum)
    for place, weight in enumerate(target.weights):
        expected = momentum * own[place].astype("float64") + (1 - momentum) * theirs[place]
        if weight.name.startswith("moving_"):
            expected = own[place]  # statistics come from its own passes
        elif momentum in (0.0, 1.0):
            expected = (theirs if momentum == 0 else own)[place]
        else:
            np.testing.assert_allclose(weight, expected, rtol=1e-6)
            continue
        np.testing.assert_array_equal(weight, expected)
    for weight, old in zip(online.weights, theirs, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_frozen_online_variables_are_not_copied():
    online = Tiny(SHAPE, features=16)
    online.get_layer("block1_conv").trainable = False
    target = target_network(online)
    before = values_of(target)
    online.set_weights([weight + 1 for weight in before])
    momentum_update(target, online, 0.5)
    np.testing.assert_array_equal(target.weights[0], before[0])
    np.testing.assert_allclose(target.get_layer("block2_conv").kernel, before[5] + 0.5, atol=1e-6)


class Pair(keras.Model):
    def __init__(self, **networks):
        super().__init__()
        for name, network in networks.items():
            setattr(self, name, network)


@pytest.mark.parametrize(
    ("target", "online"),
    [
        ("target_encoder", "encoder"),
        ("target_encoder", "online_encoder"),
        ("target", "online"),
    ],
)
def test_pairs_are_found_by_their_names(target, online):
    networks = {online: built_head(), target: built_head()}
    model = Pair(**networks, target_size=3, other=built_head())
    ((found_target, found_online),) = target_pairs(model)
    assert found_target is networks[target]
    assert found_online is networks[online]


def test_pairs_are_in_the_models_order():
    names = ("encoder", "head", "target_head", "target_encoder")
    model = Pair(**{name: built_head() for name in names})
    pairs = [(model.target_head, model.head), (model.target_encoder, model.encoder)]
    assert [tuple(map(id, pair)) for pair in target_pairs(model)] == [
        tuple(map(id, pair)) for pair in pairs
    ]


def test_a_model_without_targets_has_no_pairs():
    assert target_pairs(Pair(encoder=built_head())) == []


def test_rejects_a_target_without_an_online_network():
    with pytest.raises(
        ValueError,
        match=r"`target_encoder` follows `encoder` or `online_encoder`\. Received: Pair with the "
        "networks head, target_encoder",
    ):
        target_pairs(Pair(head=built_head(), target_encoder=built_head()))


def test_rejects_other_types():
    with pytest.raises(TypeError, match=r"must be a Keras layer or model\. Received: online='net'"):
        target_network("net")


def test_rejects_an_unbuilt_network():
    with pytest.raises(ValueError, match=r"must be built: .* Received: the unbuilt 'head'"):
        target_network(MLPHead(6, name="head"))


class Hidden(keras.layers.Layer):
    """Its number of weights is not part of its configuration."""

    count = 1

    def build(self, input_shape):
        for number in range(self.count):
            self.add_weight(shape=(input_shape[-1], 1), name=f"kernel_{number}")


def test_rejects_a_network_that_cannot_be_rebuilt():
    online = Hidden(name="hidden")
    online.count = 2
    online.build((None, 3))
    with pytest.raises(
        ValueError, match=r"'hidden' with 2 weights, whose copy has 1; the shapes differ"
    ):
        target_network(online)
