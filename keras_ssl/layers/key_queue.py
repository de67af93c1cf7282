"""MoCo's queue: the keys of recent batches, used as negatives for later ones."""

from collections.abc import Callable

import keras
import tensorflow as tf
from keras import ops

from keras_ssl import distribute


@keras.saving.register_keras_serializable(package="keras_ssl")
class KeyQueue(keras.layers.Layer):
    """First-in, first-out queue of embeddings, saved with the model.

    It is initialized with random directions, so that a loss has all its negatives from the first step.
    A batch overwrites the oldest rows and wraps around at the end, so the size need not be a multiple
    of the batch size. Under a distribution strategy the keys of all replicas are stored, in replica
    order. Every replica therefore keeps the same queue, which equals that of a single replica.

    Args:
        size: number of keys.
        dim: dimension of a key.
        seed: seed of the initial directions; `None` draws one.

    Attributes:
        keys: (size, dim) float32 variable, rows of length 1.
        pointer: int64 variable, index of the oldest row, which is overwritten next.

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
        # Keys are always float32, also if the networks use half precision.
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
            *keys: (batch, dim) keys of length 1 from this replica; several tensors are stored in order.
                If there are more keys than the queue holds, the last ones are kept.
            accepted: whether to update the queue, a bool or a scalar bool tensor.
        """
        gathered = [distribute.all_gather(ops.cast(k, "float32")) for k in keys]
        self.enqueue_gathered(*gathered, accepted=accepted)

    def enqueue_gathered(self, *keys: tf.Tensor, accepted: bool | tf.Tensor = True):
        """Overwrites the oldest rows with keys that are already gathered.

        Args:
            *keys: (global_batch, dim) keys of length 1 from all replicas, the same on each replica.
            accepted: see `enqueue`.
        """
        rows = tf.stop_gradient(tf.concat([ops.cast(k, "float32") for k in keys], axis=0))
        count = tf.shape(rows)[0]
        rows = rows[-self.size :]
        kept = tf.shape(rows)[0]
        first = self.pointer + tf.cast(count - kept, tf.int64)
        places = (first + tf.range(kept, dtype=tf.int64)) % self.size
        queue = ops.convert_to_tensor(self.keys)
        # `where` instead of `cond`: replicas that took different branches would deadlock.
        rows = tf.where(accepted, rows, tf.gather(queue, places))
        self.keys.assign(tf.tensor_scatter_nd_update(queue, places[:, None], rows))
        moved = tf.where(accepted, tf.cast(count, tf.int64), 0)
        self.pointer.assign((self.pointer + moved) % self.size)

    def get_config(self):
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "size": self.size, "dim": self.dim, "seed": self.seed}


def random_directions(seed: int | None) -> Callable:
    """Returns an initializer of rows of length 1 with uniformly random directions."""

    def initializer(shape, dtype):
        return tf.math.l2_normalize(keras.random.normal(shape, dtype=dtype, seed=seed), axis=-1)

    return initializer
