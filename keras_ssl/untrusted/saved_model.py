"""Checks the operations of an untrusted SavedModel before TensorFlow loads it."""

import os
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry  # says which operations are stateful

from keras_ssl.untrusted.names import is_safe_name

_MAX_BYTES = 2**30
# TensorFlow reads saved_model.cpb before saved_model.pb, and saved_model.pbtxt if there is no other.
_OTHER_FORMATS = ("saved_model.cpb", "saved_model.pbtxt")
# TensorFlow marks operations with outside effects as stateful: files, queues, Python, connections. The
# stateful operations that a network needs are variables, control flow and random numbers.
_ALLOWED_STATEFUL = re.compile(
    r"Assert|Assign(Add|Sub)?VariableOp|CheckNumerics(V2)?|Case|DeepCopy|DestroyResourceOp"
    r"|DisableCopyOnRead|Empty|GuaranteeConst|If|ParameterizedTruncatedNormal|Random(Crop|Gamma"
    r"|Poisson|PoissonV2|Shuffle|StandardNormal|Uniform|UniformInt)|ReadVariableOp|Resource(Gather"
    r"|Scatter)\w*|Rng(ReadAnd)?Skip|SampleDistortedBoundingBox(V2)?|StatefulPartitionedCall"
    r"|Stateful(RandomBinomial|StandardNormal(V2)?|TruncatedNormal|Uniform(FullInt|Int)?)"
    r"|StatelessRandomGetAlg|TensorArray\w*|TruncatedNormal|VarHandleOp|VarIsInitializedOp"
    r"|Variable(Shape|V2)?|While"
)
# Operations with outside effects that TensorFlow does not mark as stateful.
_OUTSIDE_EFFECTS = re.compile(
    r"ReadFile|MatchingFiles|\w*PyFunc\w*|Debug\w+|\w*Dataset\w*|\w*Reader\w*|\w*Table\w*"
    r"|GenerateVocabRemapping|(Decode|Encode)Proto\w*|Remote\w+|Rpc\w*|Xla(CustomCall|Launch|Host)\w*"
)
_SAVING = {"SaveV2", "MergeV2Checkpoints"}
_RESTORING = {"RestoreV2"}


def check_saved_model(path: str | os.PathLike) -> None:
    """Checks that the graphs of a SavedModel have no outside effects, without running them.

    `tf.saved_model.load` runs initializers, and a call runs any operations in the graph. These can read
    and write files, run Python, or connect to other machines. This function checks every node of every
    function against the operations that networks need. Reading and writing checkpoints is allowed only
    in the functions that TensorFlow adds for this purpose, which no other function may call.

    Args:
        path: directory of the SavedModel.

    Raises:
        FileNotFoundError: if there is no saved_model.pb.
        ValueError: if an operation is not allowed (the error names it), or if saved_model.pb is
            damaged, larger than 1 GiB, or accompanied by another format of itself.

    Example:
        >>> check_saved_model("saved_models/tiny")
    """
    directory = pathlib.Path(path)
    others = [name for name in _OTHER_FORMATS if (directory / name).exists()]
    if others:
        raise _unsafe_error(directory, "only saved_model.pb", others[0])
    file = directory / "saved_model.pb"
    if not file.is_file():
        raise FileNotFoundError(
            f"`path` must be the directory of a SavedModel. Received: path={path}"
        )
    if file.stat().st_size > _MAX_BYTES:
        raise _unsafe_error(directory, "a graph of at most 1 GiB", f"{file.stat().st_size} bytes")
    content = saved_model_pb2.SavedModel()
    try:
        content.ParseFromString(file.read_bytes())
    except DecodeError as error:
        raise _unsafe_error(
            directory, "a complete saved_model.pb", f"a damaged one: {error}"
        ) from error
    for graph in content.meta_graphs:
        for asset in graph.asset_file_def:
            if not is_safe_name(asset.filename):
                raise _unsafe_error(directory, "assets inside its directory", repr(asset.filename))
        if found := _Graph(graph).forbidden_operations():
            listed = ", ".join(sorted(found)[:10])
            raise _unsafe_error(
                directory, "only operations without outside effects", f"operations {listed}"
            )


def _unsafe_error(directory: pathlib.Path, expected: str, received: str) -> ValueError:
    return ValueError(
        "The SavedModel is not loaded because it may be unsafe. "
        f"Expected: {expected}. Received: {str(directory)!r} with {received}"
    )


class _Graph:
    """The functions and nodes of one graph. Separates those that only save and restore."""

    def __init__(self, graph: Any):
        self._graph = graph
        self._nodes = {node.name: node for node in graph.graph_def.node}
        self._functions = {
            function.signature.name: function for function in graph.graph_def.library.function
        }

    def forbidden_operations(self) -> set[str]:
        """Returns the names of the operations that are not allowed in their place."""
        saver = self._graph.saver_def
        saving = self._dependencies(saver.save_tensor_name)
        restoring = self._dependencies(saver.restore_op_name)
        saver_nodes = [self._nodes[name] for name in saving | restoring]
        saver_functions = self._reachable(self._called(saver_nodes))

        # Everything outside the saver, including signatures, functions that can be called by name, and
        # functions that nothing seems to call.
        nodes = [self._nodes[name] for name in self._nodes.keys() - saving - restoring]
        for signature in self._graph.signature_def.values():
            for output in signature.outputs.values():
                nodes += [self._nodes[name] for name in self._dependencies(output.name)]
        functions = self._functions.keys() - saver_functions
        functions |= self._functions.keys() & self._graph.object_graph_def.concrete_functions.keys()
        found = self._forbidden(nodes, self._reachable({*functions, *self._called(nodes)}))
        for names, allowed in ((saving, _SAVING), (restoring, _RESTORING)):
            run = [self._nodes[name] for name in names]
            found |= self._forbidden(run, self._reachable(self._called(run))) - allowed
        return found

    def _forbidden(self, nodes: list[Any], functions: set[str]) -> set[str]:
        inner = (node for name in functions for node in self._functions[name].node_def)
        return {node.op for node in (*nodes, *inner) if not self._is_allowed(node.op)}

    def _is_allowed(self, operation: str) -> bool:
        if operation in self._functions:
            return True
        definition = op_def_registry.get(operation)
        if definition is None or _OUTSIDE_EFFECTS.fullmatch(operation):
            return False
        return not definition.is_stateful or bool(_ALLOWED_STATEFUL.fullmatch(operation))

    def _dependencies(self, tensor: str) -> set[str]:
        """Returns the names of the nodes that a tensor depends on."""
        wanted, found = [tensor], set[str]()
        while wanted:
            name = wanted.pop().removeprefix("^").split(":")[0]
            if name in self._nodes and name not in found:
                found.add(name)
                wanted += self._nodes[name].input
        return found

    def _reachable(self, functions: Iterable[str]) -> set[str]:
        """Returns these functions and all functions that they call."""
        wanted, found = list(functions), set[str]()
        while wanted:
            name = wanted.pop()
            if name not in found:
                found.add(name)
                wanted += self._called(self._functions[name].node_def)
        return found

    def _called(self, nodes: Iterable[Any]) -> set[str]:
        return {
            name for node in nodes for name in _possible_function_names(node)
        } & self._functions.keys()


def _possible_function_names(node: Any) -> Iterator[str]:
    """Yields strings that may name a function. Gradient functions are named in plain strings."""
    yield node.op
    for value in node.attr.values():
        yield value.func.name
        yield value.s.decode(errors="replace")
        yield from (function.name for function in value.list.func)
        yield from (word.decode(errors="replace") for word in value.list.s)
