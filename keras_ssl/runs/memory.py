"""Compares the memory that training needs with what the machine has, before training."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from keras_ssl.data.host_memory import GIB, free_host_memory
from keras_ssl.methods import SelfSupervised
from keras_ssl.presets import Preset
from keras_ssl.runs.graph_memory import count_operations, peak_bytes

# Measured on seven networks and methods (docs/performance.md): the process grows by the tensors' size
# times _FACTOR, plus _FIXED for TensorFlow itself. The error was at most 14%.
_FACTOR, _FIXED = 1.2, 0.12 * GIB
# The graph: its operations in Python, TensorFlow's optimized copies and its executors. Measured as
# the growth of a process between graphs of 12,159 and 24,159 small operations: 10.5 KiB for each.
_OPERATION = 10.5 * 1024
_ERROR = 1.25  # what needs more than the available memory times this cannot work
_TIGHT = 0.8  # share of the available memory
_DANGER = 1 / 1.14  # share of it above which the error of the estimate may exceed it
_SMALL = 0.05  # share of the available memory below which the step is not traced
_TENSORS = 6  # upper bound for the tensors of a layer's size in a step, for each view


@dataclass(frozen=True)
class Memory:
    """The memory that training needs and what is there, in bytes.

    Args:
        needed: estimate of what training adds to the process.
        available: what is left on the machine, in the container or on the GPU.
        is_bound: whether `needed` is an upper bound instead of an estimate.
        fixed: the part of `needed` that does not depend on batch size and image size.
    """

    needed: float
    available: float
    is_bound: bool = False
    fixed: float = _FIXED


def estimate(preset: Preset, model: SelfSupervised) -> Memory | None:
    """Returns the memory of a training step, or `None` on several devices or an unknown system.

    Args:
        preset: complete settings.
        model: the compiled method.
    """
    available = available_memory()
    if available is None or model.distribute_strategy.num_replicas_in_sync > 1:
        return None
    # The backbone may take images of any size; a view has the size of the preset.
    sides = [side or int(preset.image_size or 0) for side in model.backbone.input_shape[1:]]
    shape = (int(preset.batch_size or 0), *sides)
    elements = sum(math.prod(each) for each in _output_shapes(model.backbone))
    # A pretext task passes several images per view through the network, such as tiles or turns.
    elements *= model.view_count is None
    bound = _FIXED + 2 * shape[0] * elements * 4 * _TENSORS
    if elements and bound < _SMALL * available:
        return Memory(bound, available, is_bound=True)
    model.optimizer.build(model.trainable_variables)
    graph = _trace(model, shape)
    fixed = _FIXED
    if not tf.config.list_logical_devices("GPU"):  # the graph is in the memory of the host
        fixed += _OPERATION * count_operations(graph)
    return Memory(_FACTOR * peak_bytes(graph) + fixed, available, fixed=fixed)


def check(memory: Memory, preset: Preset) -> list[str]:
    """Returns the lines to print before training.

    Raises:
        ValueError: if the step needs more memory than there is, even if the estimate is 25% too high.
    """
    needed, available = (f"{each / GIB:.1f} GiB" for each in (memory.needed, memory.available))
    about = "less than" if memory.is_bound else "about"
    line = f"Memory: training needs {about} {needed}, {available} are free"
    if memory.needed <= _TIGHT * memory.available:
        return [line]
    options = f"Options that fit: {', '.join(_options(memory, preset)) or 'a smaller --backbone'}"
    if memory.needed > _ERROR * memory.available:
        raise ValueError(
            f"Training does not fit into memory. Expected: at most {available}, which are free. "
            f"Received: a training step that needs about {needed}. {options}"
        )
    danger = ""
    if memory.needed > _DANGER * memory.available:
        danger = " The system may kill the run, or the run stops for lack of memory."
    return [f"{line}, which is tight.{danger} {options}"]


def available_memory() -> float | None:
    """Returns the bytes that are left on the first GPU, in the container or on the machine."""
    if tf.config.list_logical_devices("GPU"):
        from tensorflow.python.client import device_lib

        limits = [d.memory_limit for d in device_lib.list_local_devices() if d.device_type == "GPU"]
        return float(min(limits)) if limits else None
    return free_host_memory()


def _options(memory: Memory, preset: Preset) -> Iterator[str]:
    """Yields single changes that would fit. Activations are proportional to images and pixels."""
    fixed = memory.fixed
    share = (_TIGHT * memory.available - fixed) / max(1.0, memory.needed - fixed)
    batch_size, size = int(preset.batch_size or 0), int(preset.image_size or 0)
    if batch_size * share >= 8:
        yield f"--batch-size {1 << int(math.log2(batch_size * share))}"
    if share > 0:
        chunks = preset.chunks << max(1, math.ceil(math.log2(1 / share)) + 1)
        if chunks < batch_size and batch_size % chunks == 0:
            yield f"--chunks {chunks}"
        if (smaller := int(size * share**0.5) // 16 * 16) >= 32:
            yield f"--image-size {smaller}"
    if preset.precision == "float32" and share >= 0.55:
        yield "--precision mixed_bfloat16"


def _output_shapes(network: keras.Model) -> Iterator[tuple[int, ...]]:
    """Yields the shapes of the outputs of all layers for one image; nothing if they are unknown."""
    for layer in network._flatten_layers(include_self=False):
        for node in getattr(layer, "_inbound_nodes", []):
            for tensor in node.output_tensors:
                yield tuple(side or 1 for side in tensor.shape[1:])


def _trace(model: SelfSupervised, shape: tuple[int, ...]) -> Any:
    """Returns the graph of a training step. `fit` traces its own."""
    views: Any = tuple(tf.TensorSpec(shape) for _ in range(model.view_count or 2))
    if model.takes_indices:
        views = (*views, tf.TensorSpec(shape[:1], tf.int64))
    if model.takes_keys:
        views = (*views, tf.TensorSpec((shape[0], 2), tf.uint32))
    data = (views, tf.TensorSpec(shape[:1], tf.int64)) if model.takes_labels else views
    step = tf.function(lambda batch: model.train_step(batch), autograph=False)
    return step.get_concrete_function(data).graph
