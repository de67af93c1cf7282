"""SimCLR's checkpoints of TensorFlow 2, under the names that TensorFlow 1 gives the same weights."""

from collections.abc import Iterator
from typing import Any

import numpy as np

_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
# The lists of layers in a block: first those of the shortcut, which TensorFlow 1 makes first.
_LISTS = (
    ("projection_layers", "conv_relu_dropblock_layers"),  # bottlenecks
    ("shortcut_layers", "conv2d_bn_layers"),  # basic blocks
)
_SELECTIVE = (  # the layers of SK_Conv2D, in the order in which they are applied
    "conv2d_fixed_padding",
    "batch_norm_relu",
    "conv2d_0",
    "batch_norm_relu_1",
    "conv2d_1",
)


def object_graph_tensors(reader: Any, what: str) -> dict[str, np.ndarray]:
    """Returns the weights of a SimCLR model by the names of TensorFlow 1.

    A checkpoint of TensorFlow 2 is a graph of objects, in which a variable is reached by the names of
    attributes and has a key of its own: the model that `tf2/run.py` saves as a SavedModel has most
    of its keys in a list that stands beside the model. So the graph is walked, not the keys.

    Args:
        reader: what `tf.train.load_checkpoint` returned.
        what: where the checkpoint lies, for messages.

    Raises:
        ValueError: if the checkpoint is not of such a model, or has layers that are not known.

    Source: `tf2/model.py`, `tf2/resnet.py` and `build_saved_model` in `tf2/run.py` of
    google-research/simclr.
    """
    graph = _Graph(reader, what)
    model = graph.child(graph.root, "model") or graph.root
    resnet = graph.child(model, "resnet_model")
    if resnet is None:
        raise ValueError(
            f"{what} is no checkpoint of SimCLR. Expected: an object `model` with a `resnet_model`. "
            f"Received: {', '.join(graph.names(model)) or 'nothing'}"
        )
    tensors: dict[str, np.ndarray] = {}
    counts = {"conv2d": 0, "batch_normalization": 0}
    seen: set[int] = set()
    for layer in graph.layers(resnet):
        if layer in seen:
            raise ValueError(f"{what} has a layer that stands in it twice")
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
    """The objects of a checkpoint; an object is a number, and None is no object."""

    root = 0

    def __init__(self, reader: Any, what: str):
        from tensorflow.core.protobuf import trackable_object_graph_pb2

        graph = trackable_object_graph_pb2.TrackableObjectGraph()
        graph.ParseFromString(reader.get_tensor(_GRAPH))
        last = max((child.node_id for node in graph.nodes for child in node.children), default=0)
        if not 0 <= last < len(graph.nodes):
            raise ValueError(f"{what} refers to an object that it does not hold: {last}")
        self.read: set[str] = set()
        self.nodes = graph.nodes
        self.reader = reader
        self.what = what

    def names(self, node: int) -> list[str]:
        return [child.local_name for child in self.nodes[node].children]

    def child(self, node: int, name: str) -> int | None:
        found = {child.local_name: child.node_id for child in self.nodes[node].children}
        return found.get(name)

    def at(self, node: int, *names: str) -> int:
        """Returns what is reached by names, all of which must exist."""
        for name in names:
            found = self.child(node, name)
            if found is None:
                raise ValueError(
                    f"{self.what} has an unknown layer. Expected in it: {name}. "
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
        """Yields convolutions and normalisations in the order in which TensorFlow 1 makes them."""
        for layer in self.items(self.at(resnet, "initial_conv_relu_max_pool")):
            yield from self.parts(layer)
        for group in self.items(self.at(resnet, "block_groups")):
            for block in self.items(self.at(group, "layers")):
                names = self.names(block)
                if "se_layer" in names:
                    raise ValueError(
                        f"{self.what} has squeeze-and-excitation layers (se_ratio > 0), which "
                        "keras_ssl.backbones.ResNet does not have"
                    )
                shortcut, convolutions = next((p for p in _LISTS if p[1] in names), _LISTS[0])
                for layer in self.items(self.child(block, shortcut)):
                    yield from self.parts(layer)
                for layer in self.items(self.at(block, convolutions)):
                    yield from self.parts(layer)

    def parts(self, layer: int) -> Iterator[int]:
        """Yields the layers within one of the reference's: none in a pooling layer."""
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
        """Returns the variables of a layer, by name below `place`."""
        found = {}
        for child in self.nodes[layer].children:
            for attribute in self.nodes[child.node_id].attributes:
                if attribute.name == "VARIABLE_VALUE":
                    key = attribute.checkpoint_key
                    if key in self.read or not self.reader.has_tensor(key):
                        raise ValueError(f"{self.what} must have {key} once")
                    self.read.add(key)
                    found[f"{place}/{child.local_name}"] = self.reader.get_tensor(key)
        return found
