"""The memory that a graph needs while it runs, from the sizes of its tensors."""

import math
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

# Operations whose output is (a view of) the memory of their first input.
_ALIASES = {
    "Identity",
    "IdentityN",
    "Reshape",
    "Squeeze",
    "ExpandDims",
    "StopGradient",
    "PreventGradient",
    "EnsureShape",
    "Snapshot",
}
# Operations that may write their result over an input that nobody needs any more.
_IN_PLACE = {
    "Add",
    "AddV2",
    "AddN",
    "BiasAdd",
    "Mul",
    "RealDiv",
    "Relu",
    "Relu6",
    "Relu6Grad",
    "ReluGrad",
    "Sub",
    "Sigmoid",
    "SigmoidGrad",
    "Tanh",
    "TanhGrad",
}
_FREE = {"Const", "Placeholder", "ReadVariableOp"}  # no new memory, or very little


def peak_bytes(graph: tf.Graph) -> int:
    """Returns the largest sum of the sizes of all tensors that exist at the same time.

    The operations run in the order of the graph. A tensor exists from the operation that makes it to
    the last one that uses it. Variables and the inputs of the graph are not counted.

    Args:
        graph: graph of a function with known shapes, such as that of a training step.

    Example:
        >>> @tf.function
        ... def double(x):
        ...     return tf.exp(x) + tf.exp(-x)
        >>> peak_bytes(double.get_concrete_function(tf.ones((100, 100))).graph)  # two of 40,000
        80000
    """
    operations = graph.get_operations()
    root, last = _roots_and_last_uses(graph, operations)
    sizes: dict[int, int] = {}  # by root, of those that exist
    ends: dict[int, list[int]] = {}
    for key, number in last.items():
        ends.setdefault(number, []).append(key)
    live = peak = 0
    for number, operation in enumerate(operations):
        inside = max((peak_bytes(each) for each in _functions(graph, operation)), default=0)
        over = operation.type in _IN_PLACE and _dying(operation, root, ends.get(number, []), sizes)
        for tensor in operation.outputs:
            if operation.type in _FREE or root[id(tensor)] != id(tensor):
                continue
            sizes[id(tensor)] = _bytes(tensor)
            live += sizes[id(tensor)]
        peak = max(peak, live + inside - (over or 0))
        for key in ends.get(number, []):
            live -= sizes.pop(key, 0)
    return peak


def count_operations(graph: tf.Graph) -> int:
    """Returns the number of operations of a graph, with those of the functions that it calls.

    Args:
        graph: graph of a function.

    Example:
        >>> @tf.function
        ... def double(x):
        ...     return x + x
        >>> count_operations(double.get_concrete_function(tf.ones(3)).graph)  # input, sum, output
        3
    """
    operations = graph.get_operations()
    inside = (count_operations(each) for op in operations for each in _functions(graph, op))
    return len(operations) + sum(inside)


def _roots_and_last_uses(graph: Any, operations: list) -> tuple[dict[int, int], dict[int, int]]:
    """Returns the tensor whose memory each tensor shares, and the operation that uses it last."""
    root: dict[int, int] = {}
    last: dict[int, int] = {}
    for number, operation in enumerate(operations):
        for place, tensor in enumerate(operation.outputs):
            same = operation.type in _ALIASES and len(operation.inputs) > place
            root[id(tensor)] = root[id(operation.inputs[place])] if same else id(tensor)
            last.setdefault(root[id(tensor)], number)
        for tensor in operation.inputs:
            last[root[id(tensor)]] = number
    for tensor in getattr(graph, "outputs", []):
        last[root[id(tensor)]] = len(operations)
    return root, last


def _dying(operation: Any, root: dict[int, int], ending: list[int], sizes: dict[int, int]) -> int:
    """Returns the bytes of an input that the output may replace; 0 if there is none."""
    size = _bytes(operation.outputs[0])
    keys = (root[id(tensor)] for tensor in operation.inputs)
    return size if any(key in ending and sizes.get(key) == size for key in keys) else 0


def _functions(graph: Any, operation: Any) -> Iterator[Any]:
    """Yields the graphs of the functions that an operation calls."""
    for name in ("f", "body", "then_branch", "else_branch"):
        try:
            called = operation.get_attr(name).name
        except (ValueError, AttributeError):
            continue
        while graph is not None:
            function = graph._get_function(called)
            if function is not None:
                yield function.graph
                break
            graph = getattr(graph, "outer_graph", None)


def _bytes(tensor: Any) -> int:
    if tensor.shape.rank is None or tensor.dtype in (tf.resource, tf.variant, tf.string):
        return 0
    return math.prod(side or 1 for side in tensor.shape) * tensor.dtype.size
