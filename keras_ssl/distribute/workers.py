"""The worker processes of a strategy, and values that they exchange."""

import contextlib
import weakref
from collections.abc import Callable, Iterator, Mapping, MutableMapping

import numpy as np
import tensorflow as tf

_LOST_WORKER_ERRORS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
)

_SUM_FUNCTIONS: MutableMapping[tf.distribute.Strategy, Callable] = weakref.WeakKeyDictionary()


class WorkerLostError(ConnectionError):
    """Raised when another worker has died or cannot be reached."""


def worker_count(strategy: tf.distribute.Strategy) -> int:
    """Returns the number of worker processes; 1 if one process controls all devices."""
    return len(_workers(strategy)) or 1


def worker_id(strategy: tf.distribute.Strategy) -> int:
    """Returns the number of this process, 0 to `worker_count(strategy) - 1`."""
    return strategy.cluster_resolver.task_id if worker_count(strategy) > 1 else 0


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this process is worker 0, which writes files and messages for all."""
    return worker_id(strategy) == 0


def gather(strategy: tf.distribute.Strategy, value: float) -> np.ndarray:
    """Collects one number from each worker, and returns them on every worker.

    All workers must call it, at the same point between training steps.

    Args:
        strategy: the strategy of the workers.
        value: number from this worker. As float64, integers are exact up to 2**53.

    Returns:
        (workers,) float64 array, ordered by worker number.
    """
    if worker_count(strategy) == 1:
        return np.array([value], np.float64)
    if strategy not in _SUM_FUNCTIONS:
        _SUM_FUNCTIONS[strategy] = _build_sum_function(strategy)
    own = np.zeros(worker_count(strategy))
    own[worker_id(strategy)] = value
    return _SUM_FUNCTIONS[strategy](tf.constant(own)).numpy()


def _build_sum_function(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], tf.Tensor]:
    # The sum is over replicas, and all replicas of a worker hold the same values.
    replicas_per_worker = strategy.num_replicas_in_sync // worker_count(strategy)

    @tf.function(autograph=False)
    def sum_over_workers(values):
        parts = strategy.run(lambda part: part / replicas_per_worker, args=(values,))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, parts, axis=None)

    return sum_over_workers


def check_equal(strategy: tf.distribute.Strategy, values: Mapping[str, float]) -> None:
    """Raises ValueError, on every worker, unless all workers have the same numbers.

    Args:
        strategy: the strategy of the workers.
        values: maps a description of each number to the number, such as `{"seed": 1}`.
    """
    different = []
    for name, value in values.items():
        found = gather(strategy, float(value))
        if len(set(found)) > 1:
            different.append(f"{name}: {', '.join(f'{each:.15g}' for each in found)}")
    if different:
        raise ValueError(
            "All workers must train with the same settings on the same data. "
            f"Received, worker by worker: {'; '.join(different)}"
        )


@contextlib.contextmanager
def other_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Context manager that turns TensorFlow errors about a lost worker into WorkerLostError.

    Raises:
        WorkerLostError: at most two minutes after the other worker has ended.
    """
    try:
        yield
    except _LOST_WORKER_ERRORS as error:
        if worker_count(strategy) == 1:
            raise
        reasons = [line for line in error.message.splitlines() if "aborted by" in line]
        reason = reasons[0] if reasons else error.message.splitlines()[0]
        raise WorkerLostError(
            f"Worker {worker_id(strategy)} has lost another worker, and training has stopped. "
            f"Expected: {worker_count(strategy)} workers that run until the end. To resume from the "
            "last checkpoint, start all of them again with --resume. "
            f"Received: {type(error).__name__}: {reason}"
        ) from error


def _workers(strategy: tf.distribute.Strategy) -> list[str]:
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return []
    return strategy.cluster_resolver.cluster_spec().as_dict().get("worker", [])
