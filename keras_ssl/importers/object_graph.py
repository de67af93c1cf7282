"""Reads SimCLR's TensorFlow 2 checkpoints, with the names that the weights have in TensorFlow 1."""

from collections.abc import Iterator
from typing import Any

import numpy as np

_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
# Lists of layers in a block. The shortcut is first, because TensorFlow 1 creates it first.
_LISTS = (
    ("projection_layers", "conv_relu_dropblock_layers"),  # bottlenecks
    ("shortcut_layers", "conv2d_bn_layers"),  # basic blocks
)
_SELECTIVE = (  # the layers of SK_Conv2D, in the order of their application
    "conv2d_fixed_padding",
    "batch_norm_relu",
    "conv2d_0",
    "batch_norm_relu_1",
    "conv2d_1",
)


def read_object_graph(reader: Any, origin: str) -> dict[str, np.ndarray]:
    """Returns the weights of a SimCLR model with the names of TensorFlow 1.

    A TensorFlow 2 checkpoint is a graph of objects. The path of attributes to a variable can differ
    from its key: in the SavedModel of `tf2/run.py`, most keys belong to a list next to the model.
    Therefore variables are found by their path, not by their key.

    Args:
        reader: result of `tf.train.load_checkpoint`.
        origin: path of the checkpoint, for messages.

    Raises:
        ValueError: if the checkpoint is not of a SimCLR model, or has unknown layers.

    Source: `tf2/model.py`, `tf2/resnet.py` and `build_saved_model` in `tf2/run.py` of
    google-research/simclr.
    """
    graph = _Graph(reader, origin)
    model = graph.child(graph.root, "model") or graph.root
    resnet = graph.child(model, "resnet_model")
    if resnet is None:
        raise ValueError(
            f"{origin} is not a SimCLR checkpoint. Expected: an object `model` with a `resnet_model`. "
            f"Received: {', '.join(graph.names(model)) or 'nothing'}"
        )
    tensors: dict[str, np.ndarray] = {}
    counts = {"conv2d": 0, "batch_normalization": 0}
    seen: set[int] = set()
    for layer in graph.layers(resnet):
        if layer in seen:
            raise ValueError(f"{origin} uses the same layer twice")
        seen.add(layer)
        kind = "conv2d" if "kernel" in graph.names(layer) else "batch_normalization"
        name = f"{kind}_{counts[kind]}" if counts[kind] else kind
        counts[kind] += 1
        tensors |= graph.variables(layer, f"base_model/{name}")
    head = graph.child(model, "_projection_head")
    linear_layers = None if head is None else graph.child(head, "linear_layers")
    for number, linear in enumerate(graph.items(linear_layers)):
        place = f"head_contrastive/nl_{number}"
        tensors |= graph.variables(graph.at(linear, "dense"), f"{place}/dense")
        tensors |= graph.variables(
            graph.at(linear, "bn_relu", "bn"), f"{place}/batch_normalization"
        )
    return tensors


class _Graph:
    """The objects of a checkpoint, which are identified by number."""

    root = 0

    def __init__(self, reader: Any, origin: str):
        from tensorflow.core.protobuf import trackable_object_graph_pb2

        graph = trackable_object_graph_pb2.TrackableObjectGraph()
        graph.ParseFromString(reader.get_tensor(_GRAPH))
        last = max((child.node_id for node in graph.nodes for child in node.children), default=0)
        if not 0 <= last < len(graph.nodes):
            raise ValueError(f"{origin} refers to an object that it does not contain: {last}")
        self.read: set[str] = set()
        self.nodes = graph.nodes
        self.reader = reader
        self.origin = origin

    def names(self, node: int) -> list[str]:
        return [child.local_name for child in self.nodes[node].children]

    def child(self, node: int, name: str) -> int | None:
        found = {child.local_name: child.node_id for child in self.nodes[node].children}
        return found.get(name)

    def at(self, node: int, *names: str) -> int:
        """Returns the object at a path of names; raises ValueError if it does not exist."""
        for name in names:
            found = self.child(node, name)
            if found is None:
                raise ValueError(
                    f"{self.origin} has an unknown layer. Expected in it: {name}. "
                    f"Received: {', '.join(self.names(node)) or 'nothing'}"
                )
            node = found
        return node

    def items(self, node: int | None) -> list[int]:
        """Returns the items of a list, in order."""
        if node is None:
            return []
        numbers = sorted(int(name) for name in self.names(node) if name.isdecimal())
        return [self.at(node, str(number)) for number in numbers]

    def layers(self, resnet: int) -> Iterator[int]:
        """Yields convolutions and normalizations in the order in which TensorFlow 1 creates them."""
        for layer in self.items(self.at(resnet, "initial_conv_relu_max_pool")):
            yield from self.parts(layer)
        for group in self.items(self.at(resnet, "block_groups")):
            for block in self.items(self.at(group, "layers")):
                names = self.names(block)
                if "se_layer" in names:
                    raise ValueError(
                        f"{self.origin} has squeeze-and-excitation layers (se_ratio > 0), which "
                        "keras_ssl.backbones.ResNet does not support"
                    )
                shortcut, convolutions = next((p for p in _LISTS if p[1] in names), _LISTS[0])
                for layer in self.items(self.child(block, shortcut)):
                    yield from self.parts(layer)
                for layer in self.items(self.at(block, convolutions)):
                    yield from self.parts(layer)

    def parts(self, layer: int) -> Iterator[int]:
        """Yields the layers inside a layer of the reference; a pooling layer has none."""
        names = self.names(layer)
        if "conv2d_fixed_padding" in names:  # a selective kernel
            for name in _SELECTIVE:
                part = self.at(layer, name)
                yield from [part] if "kernel" in self.names(part) else self.parts(part)
        elif "conv2d" in names:
            yield self.at(layer, "conv2d")
        elif "bn" in names:
            yield self.at(layer, "bn")

    def variables(self, layer: int, place: str) -> dict[str, np.ndarray]:
        """Returns the variables of a layer, with names that start with `place`."""
        found = {}
        for child in self.nodes[layer].children:
            for attribute in self.nodes[child.node_id].attributes:
                if attribute.name == "VARIABLE_VALUE":
                    key = attribute.checkpoint_key
                    if key in self.read or not self.reader.has_tensor(key):
                        raise ValueError(f"{self.origin} must contain {key} exactly once")
                    self.read.add(key)
                    found[f"{place}/{child.local_name}"] = self.reader.get_tensor(key)
        return found
