"""Splits the batches of a data set between workers, so that each makes only its own part."""

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from keras_ssl.distribute import workers

_ATTRIBUTE = "_keras_ssl_shares"


@dataclass(frozen=True)
class Share:
    """One worker's part of each batch.

    Args:
        worker: number of the worker, 0 to `workers - 1`.
        workers: number of processes that read data.
        replicas: number of devices of all workers.
    """

    worker: int = 0
    workers: int = 1
    replicas: int = 1


@dataclass(frozen=True)
class Shares:
    """A data pipeline of which each worker can make its own part.

    Each batch is split into equal, contiguous parts, and worker w makes the w-th. The replicas,
    ordered by number, therefore hold the global batch in order.

    Args:
        batch_size: global batch size.
        steps_per_epoch: batches in a pass over the data.
        start: number of the first batch, counted from the start of the run.
        seed: seed of the order and the views.
        batches_of: returns an endless data set with the batches of one worker. Each has
            `batch_size / replicas` images; the worker's replicas take them in turn.
    """

    batch_size: int
    steps_per_epoch: int
    start: int
    seed: int
    batches_of: Callable[[Share], tf.data.Dataset]

    def distributed(
        self, strategy: tf.distribute.Strategy
    ) -> tf.data.Dataset | tf.distribute.DistributedDataset:
        """Returns the data set for `fit` under a strategy.

        Raises:
            ValueError: if the batch size is not divisible by the number of replicas, or the workers
                disagree on the batches.
        """
        replicas = strategy.num_replicas_in_sync
        check_batch_size(self.batch_size, replicas)
        workers.check_equal(
            strategy,
            {
                "seed of the views (without `seed`, each worker draws one)": self.seed,
                "first batch": self.start,
                "batch size": self.batch_size,
                "batches per epoch": self.steps_per_epoch,
            },
        )
        if replicas == 1:
            return self.batches_of(Share())

        def own_batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
            share = Share(context.input_pipeline_id, context.num_input_pipelines, replicas)
            return self.batches_of(share)

        return strategy.distribute_datasets_from_function(own_batches)


def check_batch_size(batch_size: int, replicas: int) -> None:
    """Raises ValueError unless the batch size is divisible by the number of replicas."""
    if batch_size % replicas:
        raise ValueError(
            "`batch_size` is the global batch size, over all devices, and must be divisible by their "
            f"number. Received: batch_size={batch_size}, and {replicas} devices. "
            f"The nearest valid sizes: {_nearest_sizes(batch_size, replicas)}"
        )


def _nearest_sizes(batch_size: int, replicas: int) -> str:
    below = batch_size // replicas * replicas
    return " and ".join(str(size) for size in (below, below + replicas) if size)


def set_shares(batches: tf.data.Dataset, shares: Shares) -> None:
    """Attaches shares to a data set. Data sets derived from it do not have them."""
    setattr(batches, _ATTRIBUTE, shares)


def get_shares(batches: object) -> Shares | None:
    """Returns the shares that `set_shares` has attached, or `None`."""
    return getattr(batches, _ATTRIBUTE, None)


def shard_by_element(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Returns the data set with an option to split it between workers by element, not by file.

    By default, TensorFlow gives each worker different files, and the global batches would differ
    from those of a single worker.
    """
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.with_options(options)
