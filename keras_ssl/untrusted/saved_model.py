"""What the graph of a SavedModel could do, read before TensorFlow loads it."""

import os
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry  # the one list of what has state

from keras_ssl.untrusted.names import is_safe_name

_MOST_BYTES = 2**30
# TensorFlow would read these instead of, or for want of, saved_model.pb.
_OTHER_FORMS = ("saved_model.cpb", "saved_model.pbtxt")
# TensorFlow calls stateful what does more than compute: files, queues, Python, networks. Of these a
# network needs variables, control flow and random numbers.
_STATEFUL = re.compile(
    r"Assert|Assign(Add|Sub)?VariableOp|CheckNumerics(V2)?|Case|DeepCopy|DestroyResourceOp"
    r"|DisableCopyOnRead|Empty|GuaranteeConst|If|ParameterizedTruncatedNormal|Random(Crop|Gamma"
    r"|Poisson|PoissonV2|Shuffle|StandardNormal|Uniform|UniformInt)|ReadVariableOp|Resource(Gather"
    r"|Scatter)\w*|Rng(ReadAnd)?Skip|SampleDistortedBoundingBox(V2)?|StatefulPartitionedCall"
    r"|Stateful(RandomBinomial|StandardNormal(V2)?|TruncatedNormal|Uniform(FullInt|Int)?)"
    r"|StatelessRandomGetAlg|TensorArray\w*|TruncatedNormal|VarHandleOp|VarIsInitializedOp"
    r"|Variable(Shape|V2)?|While"
)
# And these do more than compute although TensorFlow does not call them so.
_OUTSIDE = re.compile(
    r"ReadFile|MatchingFiles|\w*PyFunc\w*|Debug\w+|\w*Dataset\w*|\w*Reader\w*|\w*Table\w*"
    r"|GenerateVocabRemapping|(Decode|Encode)Proto\w*|Remote\w+|Rpc\w*|Xla(CustomCall|Launch|Host)\w*"
)
_SAVING = {"SaveV2", "MergeV2Checkpoints"}
_RESTORING = {"RestoreV2"}


def check_saved_model(path: str | os.PathLike) -> None:
    """Raises ValueError unless the graphs of a SavedModel only compute; nothing of it is run.

    `tf.saved_model.load` runs initialisers, and a call runs whatever operations the graph has: such
    that read and write files, run Python, or talk to other machines. Every node of every function is
    compared with what networks need. Writing and reading checkpoints is allowed in the functions
    that TensorFlow puts there for that, which nothing else may call.

    Args:
        path: directory of the SavedModel.

    Raises:
        FileNotFoundError: if there is no saved_model.pb.
        ValueError: as said, naming the operations, and if saved_model.pb is damaged, larger than
            1 GiB, or stands beside another form of itself.

    Example:
        >>> check_saved_model("saved_models/tiny")
    """
    directory = pathlib.Path(path)
    others = [name for name in _OTHER_FORMS if (directory / name).exists()]
    if others:
        raise _refusal(directory, "saved_model.pb alone", others[0])
    file = directory / "saved_model.pb"
    if not file.is_file():
        raise FileNotFoundError(f"There is no SavedModel to check. Received: path={path}")
    if file.stat().st_size > _MOST_BYTES:
        raise _refusal(directory, "a graph of at most 1 GiB", f"{file.stat().st_size} bytes")
    content = saved_model_pb2.SavedModel()
    try:
        content.ParseFromString(file.read_bytes())
    except DecodeError as error:
        raise _refusal(directory, "a whole saved_model.pb", f"a damaged one: {error}") from error
    for graph in content.meta_graphs:
        for asset in graph.asset_file_def:
            if not is_safe_name(asset.filename):
                raise _refusal(directory, "assets of its own", repr(asset.filename))
        if found := _Graph(graph).refused():
            listed = ", ".join(sorted(found)[:10])
            raise _refusal(directory, "operations that compute", f"operations {listed}")


def _refusal(directory: pathlib.Path, expected: str, received: str) -> ValueError:
    return ValueError(
        "The SavedModel is not loaded: it could do more than compute. "
        f"Expected: {expected}. Received: {str(directory)!r} with {received}"
    )


class _Graph:
    """The functions and nodes of one graph, and which of them only save and restore."""

    def __init__(self, graph: Any):
        self._graph = graph
        self._nodes = {node.name: node for node in graph.graph_def.node}
        self._functions = {
            function.signature.name: function for function in graph.graph_def.library.function
        }

    def refused(self) -> set[str]:
        """Returns the operations that are not allowed where they stand."""
        saver = self._graph.saver_def
        saving = self._before(saver.save_tensor_name)
        restoring = self._before(saver.restore_op_name)
        run_by_saver = [self._nodes[name] for name in saving | restoring]
        saver_functions = self._reached(self._called(run_by_saver))

        # What is served, what is called by name, and what nobody seems to call.
        nodes = [self._nodes[name] for name in self._nodes.keys() - saving - restoring]
        for signature in self._graph.signature_def.values():
            for output in signature.outputs.values():
                nodes += [self._nodes[name] for name in self._before(output.name)]
        functions = self._functions.keys() - saver_functions
        functions |= self._functions.keys() & self._graph.object_graph_def.concrete_functions.keys()
        found = self._operations(nodes, self._reached({*functions, *self._called(nodes)}))
        for names, allowed in ((saving, _SAVING), (restoring, _RESTORING)):
            run = [self._nodes[name] for name in names]
            found |= self._operations(run, self._reached(self._called(run))) - allowed
        return found

    def _operations(self, nodes: list[Any], functions: set[str]) -> set[str]:
        inner = (node for name in functions for node in self._functions[name].node_def)
        return {node.op for node in (*nodes, *inner) if not self._computes(node.op)}

    def _computes(self, operation: str) -> bool:
        if operation in self._functions:
            return True
        definition = op_def_registry.get(operation)
        if definition is None or _OUTSIDE.fullmatch(operation):
            return False
        return not definition.is_stateful or bool(_STATEFUL.fullmatch(operation))

    def _before(self, tensor: str) -> set[str]:
        """Returns the nodes that a tensor depends on."""
        wanted, found = [tensor], set[str]()
        while wanted:
            name = wanted.pop().removeprefix("^").split(":")[0]
            if name in self._nodes and name not in found:
                found.add(name)
                wanted += self._nodes[name].input
        return found

    def _reached(self, functions: Iterable[str]) -> set[str]:
        """Returns these functions and all that they call."""
        wanted, found = list(functions), set[str]()
        while wanted:
            name = wanted.pop()
            if name not in found:
                found.add(name)
                wanted += self._called(self._functions[name].node_def)
        return found

    def _called(self, nodes: Iterable[Any]) -> set[str]:
        return {name for node in nodes for name in _words(node)} & self._functions.keys()


def _words(node: Any) -> Iterator[str]:
    """Yields what may be names of functions: gradients are named in plain strings."""
    yield node.op
    for value in node.attr.values():
        yield value.func.name
        yield value.s.decode(errors="replace")
        yield from (function.name for function in value.list.func)
        yield from (word.decode(errors="replace") for word in value.list.s)
