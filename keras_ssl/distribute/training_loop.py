"""Builds the function that `fit` calls: one or more training steps on all replicas."""

import contextlib
from collections.abc import Callable
from typing import Any

import tensorflow as tf


def multi_step_function(
    target: tf.distribute.Strategy,
    step: Callable[[Any], Any],
    steps_per_execution: int,
    jit_compile: bool,
    run_eagerly: bool,
    watch: Callable[[Any], Any] | None = None,
    limit: Callable[[], int] | None = None,
    around: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
) -> Callable[[Any], Any]:
    """Returns the function that Keras' `fit` calls with its iterator.

    Keras' own version fails under `MultiWorkerMirroredStrategy`, because it reduces scalar logs
    over an axis, and under `MirroredStrategy` on CPUs with several steps per execution. This
    version reduces logs without an axis, and unrolls the steps of an execution. A condition between
    steps would let the replicas' collective operations run out of order.

    Args:
        target: the strategy under which the model was created.
        step: maps one replica's batch to a dictionary of scalar logs.
        steps_per_execution: number of steps per call; fewer at the end of the data.
        jit_compile: compile the step with XLA. Ignored with several replicas, which communicate
            within the step.
        run_eagerly: run without a graph, for debugging.
        watch: called eagerly with the first replica's last batch of each execution.
        limit: returns the maximum number of batches for the next execution; `None` for no limit.
        around: returns a context for the step on all replicas, entered when the step is traced. What
            it changes is the same for all replicas, which trace the step in separate threads.

    Returns:
        A function that takes an iterator and returns the logs of the last step. It raises
        `StopIteration` or `tf.errors.OutOfRangeError` when no batch is left.
    """
    if jit_compile and target.num_replicas_in_sync == 1:
        step = tf.function(step, jit_compile=True, autograph=False, reduce_retracing=True)

    local_results = target.experimental_local_results

    def one_step(batch: Any) -> Any:
        with around():
            logs = target.run(step, args=(batch,))
        return {
            name: target.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None)
            for name, value in logs.items()
        }

    def many_steps(batches: list) -> Any:
        return [one_step(batch) for batch in batches][-1]

    if not run_eagerly:
        # The step is traced once and called for each step of an execution.
        one_step = tf.function(one_step, autograph=False, reduce_retracing=True)
        many_steps = tf.function(many_steps, autograph=False, reduce_retracing=True)

    def execute(iterator: Any) -> Any:
        count = steps_per_execution if limit is None else min(limit(), steps_per_execution)
        batches = _next_batches(iterator, count)
        if watch is not None:
            watch(tf.nest.map_structure(lambda part: local_results(part)[0], batches[-1]))
        return one_step(batches[0]) if len(batches) == 1 else many_steps(batches)

    return execute


def _next_batches(iterator: Any, count: int) -> list:
    batches = [next(iterator)]
    try:
        for _ in range(count - 1):
            batches.append(next(iterator))
    except (StopIteration, tf.errors.OutOfRangeError):
        pass  # the epoch ends within this execution
    return batches
