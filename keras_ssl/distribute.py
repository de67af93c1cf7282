"""Everything that concerns `tf.distribute`: the only file that names it.

Example:

```python
from keras_ssl import distribute

with distribute.strategy("auto").scope():
    model = SimCLR(ResNet(18))
    model.compile(optimizer="sgd")
```
"""

import difflib
import json
import os
from collections.abc import Callable
from typing import Any

import tensorflow as tf

__all__ = [
    "all_gather",
    "multi_step_function",
    "own_part",
    "replica_count",
    "replica_id",
    "strategy",
]

_NAMES = ("auto", "none", "mirrored", "multi_worker", "tpu")


def strategy(name: str = "auto") -> tf.distribute.Strategy:
    """Returns the `tf.distribute` strategy of that name.

    Args:
        name: "none" (TensorFlow's default strategy, one replica), "mirrored" (every local
            accelerator; every logical CPU where there is none), "multi_worker" (the workers that the
            environment variable `TF_CONFIG` lists), "tpu", or "auto": the first that fits this
            machine.

    Raises:
        ValueError: for another name.

    Example:
        >>> strategy("none").num_replicas_in_sync
        1
    """
    if name not in _NAMES:
        near = difflib.get_close_matches(str(name), _NAMES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"`name` must be one of {', '.join(_NAMES)}.{hint} Received: name={name!r}"
        )
    if name == "auto":
        name = _detect()
    if name == "mirrored":
        return _mirrored()
    if name == "multi_worker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    if name == "tpu":
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    return tf.distribute.get_strategy()


def _detect() -> str:
    if os.environ.get("TPU_NAME") or tf.config.list_logical_devices("TPU"):
        return "tpu"
    cluster = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {})
    if len(cluster.get("worker", [])) > 1:
        return "multi_worker"
    return "mirrored" if len(tf.config.list_logical_devices("GPU")) > 1 else "none"


def _mirrored() -> tf.distribute.Strategy:
    if gpus := tf.config.list_logical_devices("GPU"):
        return tf.distribute.MirroredStrategy([device.name for device in gpus])
    # Collectives between logical CPUs of one process are slow, and those of two strategies in one
    # process mistake each other's messages.
    return tf.distribute.MirroredStrategy(
        [device.name for device in tf.config.list_logical_devices("CPU")],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )


def replica_count() -> int:
    """Returns the number of replicas that train together under the current strategy."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def replica_id() -> tf.Tensor | int:
    """Returns this replica's number, 0 to `replica_count() - 1`; 0 outside a replica."""
    context = tf.distribute.get_replica_context()
    return 0 if context is None else context.replica_id_in_sync_group


def all_gather(values: tf.Tensor) -> tf.Tensor:
    """Concatenates the replicas' tensors along the batch axis, in the order of their numbers.

    The gradient flows back to every replica, so that a loss over the gathered tensor has the
    gradient that one big replica would have.

    Args:
        values: (local_batch, ...) tensor of the same shape on every replica.

    Returns:
        (replicas * local_batch, ...) tensor, the same on every replica; `values` on one replica.
    """
    if replica_count() == 1:
        return values
    return tf.distribute.get_replica_context().all_gather(values, axis=0)


def own_part(values: tf.Tensor) -> tf.Tensor:
    """Returns this replica's part of a gathered tensor: undoes `all_gather`.

    Args:
        values: (replicas * local_batch, ...) tensor.

    Returns:
        (local_batch, ...) tensor; `values` on one replica.
    """
    if replica_count() == 1:
        return values
    local_batch = tf.shape(values)[0] // replica_count()
    return values[replica_id() * local_batch :][:local_batch]


def multi_step_function(
    target: tf.distribute.Strategy,
    step: Callable[[Any], Any],
    steps_per_execution: int,
    jit_compile: bool,
    run_eagerly: bool,
    watch: Callable[[Any], Any] | None = None,
) -> Callable[[Any], Any]:
    """Turns a one-batch step into the function that Keras' `fit` calls with its iterator.

    Keras' own version fails under `MultiWorkerMirroredStrategy` (it reduces scalar logs over an axis
    that they do not have) and, with several steps per execution, under `MirroredStrategy` on CPUs.
    Here the logs are reduced without an axis, and the steps of an execution stand one after the other
    without a condition between them, which would let the replicas' collectives meet out of order.

    Args:
        target: the strategy that the model was made under.
        step: maps one replica's batch to a dictionary of scalar logs.
        steps_per_execution: the number of steps that one call runs; fewer when data end.
        jit_compile: compile the step with XLA. With several replicas it is left to the strategy,
            which needs to communicate within the step.
        run_eagerly: run without a graph, to debug.
        watch: called, outside all graphs, with the last batch of each execution: the first replica's.

    Returns:
        A function of an iterator that returns the last step's logs and raises `StopIteration` or
        `tf.errors.OutOfRangeError` when no batch is left.
    """
    if jit_compile and target.num_replicas_in_sync == 1:
        step = tf.function(step, jit_compile=True, autograph=False, reduce_retracing=True)

    local_results = target.experimental_local_results

    def one_step(batch: Any) -> Any:
        logs = target.run(step, args=(batch,))
        return {
            name: target.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None)
            for name, value in logs.items()
        }

    def many_steps(batches: list) -> Any:
        return [one_step(batch) for batch in batches][-1]

    if not run_eagerly:
        # One trace of the step, called as often as an execution has steps.
        one_step = tf.function(one_step, autograph=False, reduce_retracing=True)
        many_steps = tf.function(many_steps, autograph=False, reduce_retracing=True)

    def execute(iterator: Any) -> Any:
        batches = _next_batches(iterator, steps_per_execution)
        if watch is not None:
            watch(tf.nest.map_structure(lambda part: local_results(part)[0], batches[-1]))
        return one_step(batches[0]) if steps_per_execution == 1 else many_steps(batches)

    return execute


def _next_batches(iterator: Any, count: int) -> list:
    batches = [next(iterator)]
    try:
        for _ in range(count - 1):
            batches.append(next(iterator))
    except (StopIteration, tf.errors.OutOfRangeError):
        pass  # the epoch ends within this execution
    return batches
