"""A memory of one embedding per image, for instance discrimination."""

import keras
import tensorflow as tf
from keras import ops

from keras_ssl import distribute
from keras_ssl.augment import random
from keras_ssl.layers.key_queue import random_directions


@keras.saving.register_keras_serializable(package="keras_ssl")
class EmbeddingBank(keras.layers.Layer):
    """One embedding for each image of the data set, a moving average over its visits.

    It starts with random directions. Under a distribution strategy the embeddings of all replicas
    enter, so that every replica keeps the same bank.

    Args:
        size: number of images.
        dim: dimension of an embedding.
        momentum: what an entry keeps at a visit, in [0, 1].
        seed: of the random start; `None` draws one.

    Attributes:
        embeddings: (size, dim) float32 variable, rows of length 1.
        visits: int64 variable, the number of batches that have entered.

    Raises:
        ValueError: if a number is out of its range.

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
            raise ValueError(f"`momentum` must lie in [0, 1]. Received: momentum={momentum}")
        # Embeddings stay float32 whatever the precision of the networks.
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
        """Returns the embeddings of images, (count, dim), given their (count,) numbers."""
        return tf.gather(ops.convert_to_tensor(self.embeddings), indices)

    def draw(self, count: int) -> tf.Tensor:
        """Returns the (count,) int64 numbers of images drawn at random, with repetition.

        A function of the visits: the same on all replicas, and in a run that was resumed.
        """
        key = random.image_keys(0, self.visits, tf.zeros(1, tf.int64), view=0)
        return tf.cast(random.uniform(key, count)[0] * self.size, tf.int64)

    def enter(self, indices: tf.Tensor, embeddings: tf.Tensor, accepted: bool | tf.Tensor = True):
        """Moves images' entries towards new embeddings.

        Args:
            indices: (batch,) numbers of this replica's images, each at most once in a batch.
            embeddings: (batch, dim) new embeddings, of length 1.
            accepted: whether to do it, a bool or a scalar bool tensor.
        """
        places = distribute.all_gather(tf.cast(indices, tf.int64))  # (global_batch,)
        new = distribute.all_gather(ops.cast(embeddings, "float32"))  # (global_batch, dim)
        bank = ops.convert_to_tensor(self.embeddings)
        old = tf.gather(bank, places)
        mixed = self.momentum * old + (1 - self.momentum) * tf.stop_gradient(new)
        # A choice of values instead of a branch: replicas that branch would wait for each other.
        rows = tf.where(accepted, tf.math.l2_normalize(mixed, axis=-1), old)
        self.embeddings.assign(tf.tensor_scatter_nd_update(bank, places[:, None], rows))
        self.visits.assign_add(tf.where(accepted, tf.constant(1, tf.int64), 0))

    def get_config(self):
        """Returns the arguments of the constructor."""
        config = {"size": self.size, "dim": self.dim, "momentum": self.momentum, "seed": self.seed}
        return {**super().get_config(), **config}
