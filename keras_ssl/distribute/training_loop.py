"""The function that `fit` calls for each execution: one or more training steps on all replicas."""

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
        limit: returns how many batches the next execution may take at most; `None` for no limit.

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
