"""MoCo, BYOL and SimCLR take the same training steps as in PyTorch, from the same weights and views.

The golden files were written by tests/oracles/momentum_step.py, which describes their content.
"""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.callbacks import MomentumEncoder
from keras_ssl.layers import BatchNorm, MLPHead, ProjectionHead, split_batch_norm
from keras_ssl.methods import BYOL, MoCo, SimCLR
from keras_ssl.optimizers import SGD

GOLDEN = Path(__file__).parents[1] / "oracles" / "golden"
CASES = ("moco_v1", "moco_v2", "moco_symmetric", "moco_split_batch_norm", "byol", "simclr")
NETWORKS = ("backbone", "projector", "predictor", "target_backbone", "target_projector")


class Golden:
    """A golden file: settings, views, losses, and the state before and after each step."""

    def __init__(self, name):
        with np.load(GOLDEN / f"{name}.npz") as file:
            self.arrays = dict(file)
        self.settings = json.loads(str(self.arrays.pop("settings")))
        self.views = self.arrays["views"].astype("float32") / 256  # (steps, 2, batch, 8, 8, 3)
        self.losses = self.arrays["losses"]

    def state(self, when):
        start = f"{when}/"
        return {k.removeprefix(start): v for k, v in self.arrays.items() if k.startswith(start)}

    def __getattr__(self, name):
        return self.settings[name]


def named_weights(network):
    """Maps "layer/variable" to variables, regardless of the models around the layer."""
    return {"/".join(v.path.split("/")[-2:]): v for v in network.weights}


def load(network, name, golden):
    state = golden.state("start")
    variables = named_weights(network)
    assert {f"{name}/{path}" for path in variables} == {k for k in state if k.startswith(name)}
    for path, variable in variables.items():
        variable.assign(state[f"{name}/{path}"])
    return network


def backbone(golden):
    x = images = keras.Input((8, 8, 3))
    for number, filters in ((1, 8), (2, 16)):
        conv = keras.layers.Conv2D(
            filters, 3, padding="same", use_bias=False, name=f"conv_{number}"
        )
        x = keras.layers.ReLU()(BatchNorm(name=f"norm_{number}")(conv(x)))
    model = keras.Model(images, keras.layers.GlobalAveragePooling2D()(x), name="backbone")
    load(model, "backbone", golden)
    return split_batch_norm(model, golden.groups) if golden.groups > 1 else model


def head(name, golden, features):
    if golden.method == "moco":
        layer = MLPHead(golden.dim, depth=golden.head_depth, name=name)
    elif golden.method == "byol":
        layer = MLPHead(golden.dim, hidden_units=12, batch_norm=True, name=name)
    else:
        layer = ProjectionHead(golden.dim, name=name)
    layer.build((None, features))
    return load(layer, name, golden)


def method(golden):
    networks = (backbone(golden), head("projector", golden, features=16))
    if golden.method == "moco":
        model = MoCo(
            *networks,
            queue_size=golden.queue_size,
            temperature=golden.temperature,
            symmetric=golden.symmetric,
        )
        model.queue.keys.assign(golden.state("start")["queue/keys"])
    elif golden.method == "byol":
        model = BYOL(*networks, head("predictor", golden, features=golden.dim))
    else:
        model = SimCLR(*networks, temperature=golden.temperature)
    optimizer = SGD(
        golden.learning_rate,
        momentum=golden.optimizer_momentum,
        weight_decay=golden.weight_decay,
    )
    model.has_early_momentum = False  # PyTorch's momentum is constant
    model.compile(optimizer)
    return model


def state_of(model):
    networks = {name: getattr(model, name) for name in NETWORKS if hasattr(model, name)}
    state = {
        f"{name}/{path}": variable.numpy().copy()
        for name, network in networks.items()
        for path, variable in named_weights(network).items()
    }
    if hasattr(model, "queue"):
        state["queue/keys"] = model.queue.keys.numpy().copy()
        state["queue/pointer"] = model.queue.pointer.numpy().copy()
    return state


class States(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.after = []

    def on_epoch_end(self, epoch, logs=None):
        self.after.append(state_of(self.model))


def train(model, golden):
    """Trains one step per epoch; returns the losses and the state after each step."""
    states = States()
    callbacks = [states]
    if hasattr(model, "target_backbone"):
        callbacks.append(MomentumEncoder(golden.momentum, final=golden.final_momentum))
    steps = tf.data.Dataset.from_tensor_slices((golden.views[:, 0], golden.views[:, 1]))
    history = model.fit(
        steps, epochs=len(golden.views), steps_per_epoch=1, callbacks=callbacks, verbose=0
    ).history
    return history["loss"], states.after


def shuffle_as(golden, monkeypatch):
    """Makes MoCo shuffle keys in the order of the golden file instead of a random one."""
    ranks = tf.constant(
        np.argsort(golden.arrays["order"]), tf.float32
    )  # `argsort` of them gives that order
    monkeypatch.setattr("keras_ssl.methods.moco.random.uniform", lambda key, count: ranks[None])


@pytest.mark.parametrize("name", CASES)
def test_three_steps_equal_those_of_pytorch(name, monkeypatch):
    golden = Golden(name)
    model = method(golden)
    if golden.groups > 1:
        shuffle_as(golden, monkeypatch)
    losses, states = train(model, golden)
    np.testing.assert_allclose(losses, golden.losses, atol=1e-5, rtol=0)
    for number, state in enumerate(states, start=1):
        expected = golden.state(f"after_{number}")
        assert set(state) == set(expected)
        for path, values in expected.items():
            np.testing.assert_allclose(
                state[path], values, atol=1e-4, rtol=0, err_msg=f"{path} after step {number}"
            )
