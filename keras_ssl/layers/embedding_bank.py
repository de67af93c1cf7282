"""Memory bank with one embedding per image, for instance discrimination."""

import keras
import tensorflow as tf
from keras import ops

from keras_ssl import distribute
from keras_ssl.augment import random
from keras_ssl.layers.key_queue import random_directions


@keras.saving.register_keras_serializable(package="keras_ssl")
class EmbeddingBank(keras.layers.Layer):
    """Stores one embedding for each image of the data set, a moving average over its updates.

    It is initialized with random directions. Under a distribution strategy the embeddings of all
    replicas are stored, so that every replica keeps the same bank.

    Args:
        size: number of images.
        dim: dimension of an embedding.
        momentum: fraction of an entry that is kept at each update, in [0, 1].
        seed: seed of the initial directions; `None` draws one.

    Attributes:
        embeddings: (size, dim) float32 variable, rows of length 1.
        visits: int64 variable, the number of batches stored so far.

    Raises:
        ValueError: if a number is out of range.

    Example:
        >>> bank = EmbeddingBank(size=10, dim=4)
        >>> bank.read(tf.constant([3, 7])).shape
        TensorShape([2, 4])

    Source: Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination",
    section 3.2.
    """

    def __init__(
        self, size: int, dim: int, momentum: float = 0.5, seed: int | None = None, **kwargs
    ):
        for name, value in (("size", size), ("dim", dim)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")
        if not 0 <= momentum <= 1:
            raise ValueError(f"`momentum` must be in [0, 1]. Received: momentum={momentum}")
        # Embeddings are always float32, also if the networks use half precision.
        super().__init__(**{"dtype": "float32", "trainable": False, **kwargs})
        self.size = size
        self.dim = dim
        self.momentum = momentum
        self.seed = seed
        self.build(None)

    def build(self, input_shape):
        """Creates the variables."""
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.size, self.dim),
            initializer=random_directions(self.seed),
            trainable=False,
        )
        self.visits = self.add_weight(
            name="visits", shape=(), dtype="int64", initializer="zeros", trainable=False
        )
        self.built = True

    def read(self, indices: tf.Tensor) -> tf.Tensor:
        """Returns the (count, dim) embeddings of images, given their (count,) indices."""
        return tf.gather(ops.convert_to_tensor(self.embeddings), indices)

    def draw(self, count: int) -> tf.Tensor:
        """Returns (count,) int64 indices of images drawn at random, with replacement.

        They depend only on `visits`, so they are the same on all replicas and after a resume.
        """
        key = random.image_keys(0, self.visits, tf.zeros(1, tf.int64), view=0)
        return tf.cast(random.uniform(key, count)[0] * self.size, tf.int64)

    def enter(self, indices: tf.Tensor, embeddings: tf.Tensor, accepted: bool | tf.Tensor = True):
        """Moves images' entries towards new embeddings.

        Args:
            indices: (batch,) indices of this replica's images, each at most once in a batch.
            embeddings: (batch, dim) new embeddings, of length 1.
            accepted: whether to update the bank, a bool or a scalar bool tensor.
        """
        places = distribute.all_gather(tf.cast(indices, tf.int64))  # (global_batch,)
        new = distribute.all_gather(ops.cast(embeddings, "float32"))  # (global_batch, dim)
        bank = ops.convert_to_tensor(self.embeddings)
        old = tf.gather(bank, places)
        mixed = self.momentum * old + (1 - self.momentum) * tf.stop_gradient(new)
        # `where` instead of `cond`: replicas that took different branches would deadlock.
        rows = tf.where(accepted, tf.math.l2_normalize(mixed, axis=-1), old)
        self.embeddings.assign(tf.tensor_scatter_nd_update(bank, places[:, None], rows))
        self.visits.assign_add(tf.where(accepted, tf.constant(1, tf.int64), 0))

    def get_config(self):
        """Returns the arguments of the constructor."""
        config = {"size": self.size, "dim": self.dim, "momentum": self.momentum, "seed": self.seed}
        return {**super().get_config(), **config}
