"""MoCo's queue: the keys of the latest batches, which later batches compare with."""

from collections.abc import Callable

import keras
import tensorflow as tf
from keras import ops

from keras_ssl import distribute


@keras.saving.register_keras_serializable(package="keras_ssl")
class KeyQueue(keras.layers.Layer):
    """First-in, first-out queue of embeddings, saved with the model.

    It starts full of random directions, so that a loss has its full number of negatives from the
    first step. A batch overwrites the oldest rows and wraps around the end: the size need not be a
    multiple of the batch. Under a distribution strategy the keys of all replicas enter, in the order
    of the replicas, so that every replica keeps the same queue and it equals that of one replica.

    Args:
        size: number of keys.
        dim: dimension of a key.
        seed: of the random start; `None` draws one.

    Attributes:
        keys: (size, dim) float32 variable, rows of length 1.
        pointer: int64 variable, the row that is overwritten next: the oldest.

    Raises:
        ValueError: if a number is not positive.

    Example:
        >>> queue = KeyQueue(size=10, dim=4)
        >>> queue.enqueue(keras.ops.ones((3, 4)) / 2)
        >>> int(queue.pointer)
        3

    Source: He et al. 2020 (MoCo), section 3.2 and algorithm 1.
    """

    def __init__(self, size: int, dim: int, seed: int | None = None, **kwargs):
        for argument, value in (("size", size), ("dim", dim)):
            if value < 1:
                raise ValueError(f"`{argument}` must be at least 1. Received: {argument}={value}")
        # Keys stay float32 whatever the precision of the networks.
        super().__init__(**{"dtype": "float32", "trainable": False, **kwargs})
        self.size = size
        self.dim = dim
        self.seed = seed
        self.build(None)

    def build(self, input_shape):
        """Creates the variables."""
        self.keys = self.add_weight(
            name="keys",
            shape=(self.size, self.dim),
            initializer=random_directions(self.seed),
            trainable=False,
        )
        self.pointer = self.add_weight(
            name="pointer", shape=(), dtype="int64", initializer="zeros", trainable=False
        )
        self.built = True

    def enqueue(self, *keys: tf.Tensor, accepted: bool | tf.Tensor = True):
        """Overwrites the oldest rows with new keys.

        Args:
            *keys: (batch, dim) keys of length 1, this replica's; several are entered one after the
                other. Of more keys than the queue holds, the last stay.
            accepted: whether to do it, a bool or a scalar bool tensor.
        """
        gathered = [distribute.all_gather(ops.cast(k, "float32")) for k in keys]
        self.enqueue_gathered(*gathered, accepted=accepted)

    def enqueue_gathered(self, *keys: tf.Tensor, accepted: bool | tf.Tensor = True):
        """Overwrites the oldest rows with keys that were gathered before.

        Args:
            *keys: (global_batch, dim) keys of length 1, of all replicas, the same on each.
            accepted: see `enqueue`.
        """
        rows = tf.stop_gradient(tf.concat([ops.cast(k, "float32") for k in keys], axis=0))
        count = tf.shape(rows)[0]
        rows = rows[-self.size :]
        kept = tf.shape(rows)[0]
        first = self.pointer + tf.cast(count - kept, tf.int64)
        places = (first + tf.range(kept, dtype=tf.int64)) % self.size
        queue = ops.convert_to_tensor(self.keys)
        # A choice of values instead of a branch: replicas that branch would wait for each other.
        rows = tf.where(accepted, rows, tf.gather(queue, places))
        self.keys.assign(tf.tensor_scatter_nd_update(queue, places[:, None], rows))
        moved = tf.where(accepted, tf.cast(count, tf.int64), 0)
        self.pointer.assign((self.pointer + moved) % self.size)

    def get_config(self):
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "size": self.size, "dim": self.dim, "seed": self.seed}


def random_directions(seed: int | None) -> Callable:
    """Returns an initializer whose rows have length 1 and point anywhere."""

    def initializer(shape, dtype):
        return tf.math.l2_normalize(keras.random.normal(shape, dtype=dtype, seed=seed), axis=-1)

    return initializer
