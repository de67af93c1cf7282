"""Several clusterings of the images of a data set, as variables that are saved with a model."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_ssl.augment import random
from keras_ssl.layers.spherical_k_means import spherical_k_means


@keras.saving.register_keras_serializable(package="keras_ssl")
class Clusters(keras.layers.Layer):
    """Stores the centers of several clusterings, and the cluster of each image in each of them.

    Args:
        size: number of images.
        dim: dimension of an embedding.
        counts: number of clusters of each clustering, at least 2 and at most `size`.
        seed: seed of the first centers.

    Attributes:
        centers: one (count, dim) float32 variable per clustering, rows of length 1.
        labels: (clusterings, size) int64 variable, -1 before the first `update`.
        epochs: int64 variable: 1 + the epoch of the last `update`, 0 before the first.

    Raises:
        ValueError: if a number is out of range.

    Example:
        >>> clusters = Clusters(size=10, dim=4, counts=(3, 2))
        >>> clusters.read(0, tf.constant([3, 7])).numpy().tolist()
        [-1, -1]
    """

    def __init__(self, size: int, dim: int, counts: Sequence[int], seed: int = 0, **kwargs):
        counts = tuple(int(count) for count in counts)
        if not counts or min(counts) < 2 or max(counts) > size:
            raise ValueError(
                "`counts` must be numbers of clusters from 2 to the number of images. "
                f"Received: counts={counts}, size={size}"
            )
        super().__init__(**{"dtype": "float32", "trainable": False, **kwargs})
        self.size = size
        self.dim = dim
        self.counts = counts
        self.seed = seed
        self.build(None)

    def build(self, input_shape):
        """Creates the variables."""
        self.centers = [
            self.add_weight(
                name=f"centers_{number}",
                shape=(count, self.dim),
                initializer="zeros",
                trainable=False,
            )
            for number, count in enumerate(self.counts)
        ]
        self.labels = self.add_weight(
            name="labels",
            shape=(len(self.counts), self.size),
            dtype="int64",
            initializer=keras.initializers.Constant(-1),
            trainable=False,
        )
        self.epochs = self.add_weight(
            name="epochs", shape=(), dtype="int64", initializer="zeros", trainable=False
        )
        self.built = True

    def read(self, number: int, indices: tf.Tensor) -> tf.Tensor:
        """Returns the (batch,) clusters of images in one clustering, given their (batch,) indices."""
        return tf.gather(ops.convert_to_tensor(self.labels)[number], indices)

    def update(self, embeddings: tf.Tensor, epoch: int):
        """Clusters the images anew. Call it outside of a training step.

        The first centers are embeddings of images drawn by (seed, epoch, clustering), so that a resumed
        run finds the same clusters.

        Args:
            embeddings: (size, dim) float32 embeddings of all images, rows of length 1.
            epoch: number of the epoch that begins.
        """
        labels = []
        for number, variable in enumerate(self.centers):
            keys = random.image_keys(self.seed, epoch, tf.range(self.size, dtype=tf.int64), number)
            drawn = tf.argsort(random.uniform(keys, 1)[:, 0], stable=True)[: self.counts[number]]
            centers, own = spherical_k_means(embeddings, tf.gather(embeddings, drawn))
            variable.assign(centers)
            labels.append(np.asarray(own))
        self.labels.assign(np.stack(labels))
        self.epochs.assign(epoch + 1)

    def get_config(self):
        """Returns the arguments of the constructor."""
        config = {"size": self.size, "dim": self.dim, "counts": self.counts, "seed": self.seed}
        return {**super().get_config(), **config}
