"""Collective operations between the replicas of a training step."""

import tensorflow as tf


def replica_count() -> int:
    """Returns the number of replicas of the current strategy."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def replica_id() -> tf.Tensor | int:
    """Returns the number of this replica, 0 to `replica_count() - 1`; 0 outside of a replica."""
    context = tf.distribute.get_replica_context()
    return 0 if context is None else context.replica_id_in_sync_group


def all_gather(values: tf.Tensor) -> tf.Tensor:
    """Concatenates the tensors of all replicas along the batch axis, ordered by replica number.

    The gradient flows back to every replica. A loss over the gathered tensor therefore has the same
    gradient as on a single replica with the global batch.

    Args:
        values: (local_batch, ...) tensor, of the same shape on every replica.

    Returns:
        (replicas * local_batch, ...) tensor, the same on every replica; `values` on one replica.
    """
    if replica_count() == 1:
        return values
    # Multi-worker strategies cannot gather an argument of the step itself, hence `tf.identity`. All
    # strategies lose the static shape, which TPUs and split batch normalization need.
    gathered = tf.distribute.get_replica_context().all_gather(tf.identity(values), axis=0)
    local_batch = values.shape[0]
    batch = None if local_batch is None else replica_count() * local_batch
    return tf.ensure_shape(gathered, (batch, *values.shape[1:]))


def all_reduce_sum(values: tf.Tensor) -> tf.Tensor:
    """Returns the sum of the tensors of all replicas, on every replica."""
    if replica_count() == 1:
        return values
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


def own_part(values: tf.Tensor) -> tf.Tensor:
    """Returns this replica's part of a gathered tensor; reverses `all_gather`.

    Args:
        values: (replicas * local_batch, ...) tensor.

    Returns:
        (local_batch, ...) tensor; `values` on one replica.
    """
    if replica_count() == 1:
        return values
    batch = values.shape[0] or tf.shape(values)[0]
    local_batch = batch // replica_count()
    # Not a slice, because its length would be unknown in a graph.
    return tf.gather(values, replica_id() * local_batch + tf.range(local_batch))
