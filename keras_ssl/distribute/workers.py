"""The worker processes of a strategy: which this is, and what they must agree on."""

import contextlib
import weakref
from collections.abc import Callable, Iterator, Mapping, MutableMapping

import numpy as np
import tensorflow as tf

_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
)

_SUMS: MutableMapping[tf.distribute.Strategy, Callable] = weakref.WeakKeyDictionary()


class WorkerLostError(ConnectionError):
    """Another worker died, or cannot be reached."""


def worker_count(strategy: tf.distribute.Strategy) -> int:
    """Returns the number of processes that train together; 1 where one process leads all devices."""
    return len(_workers(strategy)) or 1


def worker_id(strategy: tf.distribute.Strategy) -> int:
    """Returns this process's number, 0 to `worker_count(strategy) - 1`."""
    return strategy.cluster_resolver.task_id if worker_count(strategy) > 1 else 0


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this process writes what all have in common: files, and messages."""
    return worker_id(strategy) == 0


def gather(strategy: tf.distribute.Strategy, value: float) -> np.ndarray:
    """Returns one number of each worker, in the order of the workers, on every worker.

    All workers must call it, at the same place between training steps.

    Args:
        strategy: the strategy that they share.
        value: this worker's number; float64 keeps integers up to 2**53.

    Returns:
        (workers,) float64 array.
    """
    if worker_count(strategy) == 1:
        return np.array([value], np.float64)
    if strategy not in _SUMS:
        _SUMS[strategy] = _sum_of_workers(strategy)
    own = np.zeros(worker_count(strategy))
    own[worker_id(strategy)] = value
    return _SUMS[strategy](tf.constant(own)).numpy()


def _sum_of_workers(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], tf.Tensor]:
    # Each replica of a worker says the same, and the sum is over all of them.
    replicas_per_worker = strategy.num_replicas_in_sync // worker_count(strategy)

    @tf.function(autograph=False)
    def summed(values):
        parts = strategy.run(lambda part: part / replicas_per_worker, args=(values,))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, parts, axis=None)

    return summed


def check_equal(strategy: tf.distribute.Strategy, values: Mapping[str, float]) -> None:
    """Raises ValueError, on every worker, unless all have the same numbers.

    Args:
        strategy: the strategy that they share.
        values: numbers by what they are, such as `{"seed": 1}`.
    """
    different = []
    for name, value in values.items():
        found = gather(strategy, float(value))
        if len(set(found)) > 1:
            different.append(f"{name}: {', '.join(f'{each:.15g}' for each in found)}")
    if different:
        raise ValueError(
            "All workers must train the same way on the same data. "
            f"Received, worker by worker: {'; '.join(different)}"
        )


@contextlib.contextmanager
def other_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Says so when another worker is lost within the block, instead of TensorFlow's message.

    Raises:
        WorkerLostError: within two minutes of the other worker's end.
    """
    try:
        yield
    except _LOST as error:
        if worker_count(strategy) == 1:
            raise
        reasons = [line for line in error.message.splitlines() if "aborted by" in line]
        reason = reasons[0] if reasons else error.message.splitlines()[0]
        raise WorkerLostError(
            f"Worker {worker_id(strategy)} has lost another one, and training has stopped. "
            f"Expected: {worker_count(strategy)} workers that run until the end. To go on from "
            "the last checkpoint, start all of them again with --resume. "
            f"Received: {type(error).__name__}: {reason}"
        ) from error


def _workers(strategy: tf.distribute.Strategy) -> list[str]:
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return []
    return strategy.cluster_resolver.cluster_spec().as_dict().get("worker", [])
