"""How the batches of a data set are made by several workers, each its own part."""

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
        workers: processes that read data.
        replicas: devices of all workers together.
    """

    worker: int = 0
    workers: int = 1
    replicas: int = 1


@dataclass(frozen=True)
class Shares:
    """Batches that each worker can make its own part of.

    The part of worker w is the w-th of equal, contiguous parts of each batch, so that the replicas, in
    the order of their numbers, hold the batch in its order.

    Args:
        batch_size: images per batch, over all replicas.
        steps_per_epoch: batches in a pass over the data.
        start: number of the batch to begin with, counted from the run's first.
        seed: of order and views.
        batches_of: returns one worker's batches without end, of `batch_size / replicas` images, one
            for each of its replicas in turn.
    """

    batch_size: int
    steps_per_epoch: int
    start: int
    seed: int
    batches_of: Callable[[Share], tf.data.Dataset]

    def distributed(
        self, strategy: tf.distribute.Strategy
    ) -> tf.data.Dataset | tf.distribute.DistributedDataset:
        """Returns what `fit` iterates over under a strategy.

        Raises:
            ValueError: if the replicas cannot have equal parts, or workers would read other batches.
        """
        replicas = strategy.num_replicas_in_sync
        check_batch_size(self.batch_size, replicas)
        workers.check_equal(
            strategy,
            {
                "seed of the views, which each draws for itself unless given": self.seed,
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
    """Raises ValueError unless a batch can be divided into equal parts."""
    if batch_size % replicas:
        raise ValueError(
            "`batch_size` counts the images of all devices together, and must divide evenly among "
            f"them. Received: batch_size={batch_size}, and {replicas} devices. "
            f"The next ones that do: {_near(batch_size, replicas)}"
        )


def _near(batch_size: int, replicas: int) -> str:
    below = batch_size // replicas * replicas
    return " and ".join(str(size) for size in (below, below + replicas) if size)


def set_shares(batches: tf.data.Dataset, shares: Shares) -> None:
    """Notes on a data set how workers make their parts; data sets derived from it do not know."""
    setattr(batches, _ATTRIBUTE, shares)


def shares_of(batches: object) -> Shares | None:
    """Returns what `set_shares` noted, or `None`."""
    return getattr(batches, _ATTRIBUTE, None)


def sharded_by_element(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Returns the same batches, of which `fit` gives each worker its part of every batch.

    TensorFlow would rather give each worker some of the files, and other batches than one worker has.
    """
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.with_options(options)
