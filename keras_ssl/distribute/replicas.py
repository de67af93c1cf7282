"""The replicas within a training step: how many there are, which this is, and what all of them hold."""

import tensorflow as tf


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
    # Strategies of several workers refuse to gather an argument of the step as it is, and all of them
    # forget the shape, which TPUs and split batch normalisation need.
    gathered = tf.distribute.get_replica_context().all_gather(tf.identity(values), axis=0)
    local_batch = values.shape[0]
    batch = None if local_batch is None else replica_count() * local_batch
    return tf.ensure_shape(gathered, (batch, *values.shape[1:]))


def all_reduce_sum(values: tf.Tensor) -> tf.Tensor:
    """Returns the sum of the replicas' tensors, the same on every replica; `values` on one replica."""
    if replica_count() == 1:
        return values
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


def own_part(values: tf.Tensor) -> tf.Tensor:
    """Returns this replica's part of a gathered tensor: undoes `all_gather`.

    Args:
        values: (replicas * local_batch, ...) tensor.

    Returns:
        (local_batch, ...) tensor; `values` on one replica.
    """
    if replica_count() == 1:
        return values
    batch = values.shape[0] or tf.shape(values)[0]
    local_batch = batch // replica_count()
    # Not a slice, whose length a graph would not know.
    return tf.gather(values, replica_id() * local_batch + tf.range(local_batch))
