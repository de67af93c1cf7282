"""BYOL's networks as deepmind-research computes them, and the pickle that it writes.

An independent implementation in plain TensorFlow operations, without keras_ssl, written from
`byol/utils/networks.py`, `byol/utils/checkpointing.py` and Haiku's `nets/resnet.py`. Weights are
random.
"""

import pickle
import sys
import types
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


class FlatMapping(dict):
    """Haiku's container for parameters. It is pickled as a call of the class with a dictionary."""

    def __reduce__(self):
        return FlatMapping, (dict(self),)


class _ByolExperimentState(NamedTuple):
    online_params: Any
    target_params: Any
    online_state: Any
    target_state: Any
    opt_state: Any


class Reference:
    """A network with random weights, by their module and name in Haiku."""

    def __init__(self, depth, filters, first_projection=True, seed=0):
        self.depth = depth
        self.filters = filters
        self.first_projection = first_projection
        self.random = np.random.default_rng(seed)
        self.name = f"res_net{depth}"
        self.params = {}
        self.state = {}
        features = self.forward(tf.ones((1, 64, 64, 3)))["features"].shape[-1]
        for name, units in (("projector", features), ("predictor", 6)):
            self.mlp(name, tf.ones((1, units)))
        self.linear("classifier", tf.ones((1, features)), 10, bias=True)

    # --- layers ------------------------------------------------------------------------------------

    def weight(self, module, name, shape, low, high):
        values = self.params.setdefault(module, {})
        if name not in values:
            values[name] = self.random.uniform(low, high, shape).astype("float32")
        return values[name]

    def average(self, module, shape, low, high):
        if module not in self.state:
            value = self.random.uniform(low, high, shape).astype("float32")
            # `average` is bias-corrected, `hidden` is not.
            self.state[module] = {
                "counter": np.array(3, "int32"),
                "hidden": value * np.float32(0.5),
                "average": value,
            }
        return self.state[module]["average"]

    def conv(self, x, module, filters, size, stride=1):
        shape = (size, size, x.shape[-1], filters)
        scale = (3 / np.prod(shape[:3])) ** 0.5
        return tf.nn.conv2d(x, self.weight(module, "w", shape, -scale, scale), stride, "SAME")

    def norm(self, x, module, relu=True):
        shape = (*([1] * (len(x.shape) - 1)), x.shape[-1])
        mean = self.average(f"{module}/~/mean_ema", shape, -0.3, 0.3)
        variance = self.average(f"{module}/~/var_ema", shape, 0.5, 2)
        x = (x - mean) / np.sqrt(variance + np.float32(1e-5))
        x = x * self.weight(module, "scale", shape, 0.5, 1.5)
        x = x + self.weight(module, "offset", shape, -0.3, 0.3)
        return tf.nn.relu(x) if relu else x

    def linear(self, module, x, units, bias):
        x = x @ self.weight(module, "w", (x.shape[-1], units), -0.3, 0.3)
        return x + self.weight(module, "b", (units,), -0.3, 0.3) if bias else x

    def mlp(self, name, x):
        x = self.norm(self.linear(f"{name}/linear", x, 20, bias=True), f"{name}/batch_norm")
        return self.linear(f"{name}/linear_1", x, 6, bias=False)

    # --- the network -------------------------------------------------------------------------------

    def block(self, x, place, filters, stride, projects):
        bottleneck = self.depth >= 50
        shortcut = x
        if projects:
            outputs = filters * (4 if bottleneck else 1)
            shortcut = self.conv(x, f"{place}/~/shortcut_conv", outputs, 1, stride)
            shortcut = self.norm(shortcut, f"{place}/~/shortcut_batchnorm", relu=False)
        if bottleneck:
            layers = ((filters, 1, 1), (filters, 3, stride), (4 * filters, 1, 1))
        else:
            layers = ((filters, 3, stride), (filters, 3, 1))
        for number, (units, size, step) in enumerate(layers):
            x = self.conv(x, f"{place}/~/conv_{number}", units, size, step)
            x = self.norm(x, f"{place}/~/batchnorm_{number}", relu=number < len(layers) - 1)
        return tf.nn.relu(x + shortcut)

    def forward(self, x):
        """Returns the feature maps of all stages."""
        x = self.conv(x, f"{self.name}/~/initial_conv", self.filters, 7, 2)
        x = self.norm(x, f"{self.name}/~/initial_batchnorm")
        x = tf.nn.max_pool2d(x, 3, 2, "SAME")
        stages = {"stem": x}
        for stage, count in enumerate(BLOCKS[self.depth]):
            for number in range(count):
                x = self.block(
                    x,
                    f"{self.name}/~/block_group_{stage}/~/block_{number}",
                    self.filters * 2**stage,
                    stride=2 if stage and not number else 1,
                    projects=number == 0 and (stage > 0 or self.first_projection),
                )
            stages[f"block{stage + 1}"] = x
        return {**stages, "features": tf.reduce_mean(x, (1, 2))}


def write(path, online, target):
    """Writes a pickle as `checkpointing.py` does: protocol 2, with the original modules of classes."""

    def mapping(values):
        return FlatMapping({name: FlatMapping(inner) for name, inner in values.items()})

    state = _ByolExperimentState(
        mapping(online.params),
        mapping(target.params),
        mapping(online.state),
        mapping(target.state),
        {"mu": mapping(online.params)},
    )
    content = {"experiment_state": state, "step": np.int64(3), "rng": np.zeros(2, "uint32")}
    module_names = {
        FlatMapping: "haiku._src.data_structures",
        _ByolExperimentState: "byol.byol_experiment",
    }
    before = {cls: cls.__module__ for cls in module_names}
    packages = ("haiku", "haiku._src", "byol")
    modules = {name: types.ModuleType(name) for name in (*packages, *module_names.values())}
    try:
        for cls, name in module_names.items():
            cls.__module__ = name
            setattr(modules[name], cls.__name__, cls)
        sys.modules.update(modules)
        path.write_bytes(pickle.dumps(content, protocol=2))
    finally:
        for cls, name in before.items():
            cls.__module__ = name
        for name in modules:
            del sys.modules[name]
