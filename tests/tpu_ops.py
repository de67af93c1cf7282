"""Finds what a TPU could not run, or not well, in the graph of a step."""

import functools
import pathlib
import re

import tensorflow as tf
from tensorflow.python.framework import kernels


def operations(graph):
    """Returns the operations of a graph, and of the functions that it calls."""
    inner = [operations(function.graph) for function in graph._functions.values()]
    return [*graph.get_operations(), *(operation for each in inner for operation in each)]


@functools.cache
def xla_kernels():
    """Returns, by op, the types that each XLA kernel wants of its attributes.

    TPU kernels are in another library, `libtpu`, which registers the same ones: what XLA compiles for
    CPUs and GPUs alike it compiles for every device, for the types that the device has.
    """
    tf.function(tf.zeros, jit_compile=True)(2)  # they are registered at the first use
    found = {"XLA_CPU_JIT": {}, "XLA_GPU_JIT": {}}
    for kernel in kernels.get_all_registered_kernels().kernel:
        if kernel.device_type in found:
            wanted = {
                rule.name: {tf.as_dtype(each) for each in rule.allowed_values.list.type}
                for rule in kernel.constraint
            }
            found[kernel.device_type].setdefault(kernel.op, []).append(wanted)
    on_cpu, on_gpu = found.values()
    return {op: wanted for op, wanted in on_cpu.items() if op in on_gpu}


@functools.cache
def tpu_types():
    """Returns the types that TPU kernels are registered for, from a header of this TensorFlow."""
    header = pathlib.Path(tf.sysconfig.get_include(), "tensorflow/core/tpu/tpu_defs.h").read_text()
    names = re.findall(r"DT_(\w+)", re.search(r"kTpuAllTypes = (.*?);", header, re.S).group(1))
    short = {"HALF": "float16", "FLOAT": "float32", "DOUBLE": "float64"}
    return {tf.as_dtype(short.get(name, name.lower())) for name in names} | {tf.resource}


def types(operation):
    """Returns the types in an operation's attributes, by the attributes' names."""
    attributes = operation.node_def.attr.items()
    listed = {name: value.list.type or [value.type] for name, value in attributes}
    return {name: {tf.as_dtype(each) for each in found if each} for name, found in listed.items()}


def without_kernel(graph):
    """Returns the names of the ops that have no TPU kernel, or none for their types."""

    def has_kernel(operation):
        found = types(operation)
        return set().union(*found.values()) <= tpu_types() and any(
            all(found[name] <= allowed for name, allowed in wanted.items())
            for wanted in xla_kernels().get(operation.type, ())
        )

    # A placeholder is an argument of its function.
    rest = [each for each in operations(graph) if each.type != "Placeholder"]
    return {operation.type for operation in rest if not has_kernel(operation)}


def of_unknown_shape(graph):
    """Returns the names of the ops whose results have a shape that the graph does not tell."""

    def is_known(tensor):
        producer = tensor.op
        if producer.type == "ZerosLike":  # the gradient of what nobody uses
            tensor, producer = producer.inputs[0], producer.inputs[0].op
        # What the kernel keeps for the gradient; XLA's keeps nothing.
        is_reserve = producer.type == "FusedBatchNormV3" and tensor is producer.outputs[5]
        return tensor.shape.is_fully_defined() or is_reserve

    found = (output for operation in operations(graph) for output in operation.outputs)
    return {output.op.type for output in found if not is_known(output)}


def in_float64(graph):
    """Returns the names of the ops that compute in float64, which TPUs do in software."""
    return {
        operation.type
        for operation in operations(graph)
        if operation.type != "Const" and tf.float64 in set().union(*types(operation).values())
    }
