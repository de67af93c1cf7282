"""Finds operations in a graph that a TPU cannot run, or runs slowly."""

import functools
import pathlib
import re

import tensorflow as tf
from tensorflow.python.framework import kernels


def operations(graph):
    """Returns the operations of a graph and of the functions that it calls."""
    inner = [operations(function.graph) for function in graph._functions.values()]
    return [*graph.get_operations(), *(operation for each in inner for operation in each)]


@functools.cache
def xla_kernels():
    """Returns, by op, the types that each XLA kernel accepts for its attributes.

    TPU kernels are in another library, `libtpu`, which registers the same kernels. An op that XLA
    compiles for both CPUs and GPUs is compiled for every device, for the types that it supports.
    """
    tf.function(tf.zeros, jit_compile=True)(2)  # kernels are registered at the first use
    found = {"XLA_CPU_JIT": {}, "XLA_GPU_JIT": {}}
    for kernel in kernels.get_all_registered_kernels().kernel:
        if kernel.device_type in found:
            allowed_types = {
                rule.name: {tf.as_dtype(each) for each in rule.allowed_values.list.type}
                for rule in kernel.constraint
            }
            found[kernel.device_type].setdefault(kernel.op, []).append(allowed_types)
    on_cpu, on_gpu = found.values()
    return {op: types for op, types in on_cpu.items() if op in on_gpu}


@functools.cache
def tpu_types():
    """Returns the types that TPU kernels support, from a header of the installed TensorFlow."""
    header = pathlib.Path(tf.sysconfig.get_include(), "tensorflow/core/tpu/tpu_defs.h").read_text()
    names = re.findall(r"DT_(\w+)", re.search(r"kTpuAllTypes = (.*?);", header, re.S).group(1))
    short = {"HALF": "float16", "FLOAT": "float32", "DOUBLE": "float64"}
    return {tf.as_dtype(short.get(name, name.lower())) for name in names} | {tf.resource}


def attribute_types(operation):
    """Returns the types in an operation's attributes, by attribute name."""
    attributes = operation.node_def.attr.items()
    listed = {name: value.list.type or [value.type] for name, value in attributes}
    return {name: {tf.as_dtype(each) for each in found if each} for name, found in listed.items()}


def ops_without_kernel(graph):
    """Returns the names of the ops without a TPU kernel for their types."""

    def has_kernel(operation):
        found = attribute_types(operation)
        return set().union(*found.values()) <= tpu_types() and any(
            all(found[name] <= allowed for name, allowed in kernel.items())
            for kernel in xla_kernels().get(operation.type, ())
        )

    # A placeholder is an argument of a function.
    rest = [each for each in operations(graph) if each.type != "Placeholder"]
    return {operation.type for operation in rest if not has_kernel(operation)}


def ops_of_unknown_shape(graph):
    """Returns the names of the ops with outputs whose shape is not static."""

    def is_known(tensor):
        producer = tensor.op
        if producer.type == "ZerosLike":  # the gradient of an unused output
            tensor, producer = producer.inputs[0], producer.inputs[0].op
        # An output that the kernel reserves for the gradient. XLA's kernel does not use it.
        is_reserve = producer.type == "FusedBatchNormV3" and tensor is producer.outputs[5]
        return tensor.shape.is_fully_defined() or is_reserve

    found = (output for operation in operations(graph) for output in operation.outputs)
    return {output.op.type for output in found if not is_known(output)}


def ops_in_float64(graph):
    """Returns the names of the ops that compute in float64, which TPUs emulate in software."""
    return {
        operation.type
        for operation in operations(graph)
        if operation.type != "Const"
        and tf.float64 in set().union(*attribute_types(operation).values())
    }
