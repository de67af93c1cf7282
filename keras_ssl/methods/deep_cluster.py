"""DeepCluster-v2: the clusters of the last epoch's embeddings are the classes of the next."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ssl import distribute
from keras_ssl.augment.finish import finished_spec, get_finish
from keras_ssl.layers import Clusters, EmbeddingBank, MLPHead
from keras_ssl.methods.base import SelfSupervised
from keras_ssl.methods.epoch_boundaries import with_callback
from keras_ssl.methods.panel import Panel


@keras.saving.register_keras_serializable(package="keras_ssl")
class DeepCluster(SelfSupervised):
    """Clusters the embeddings of all images at the start of each epoch, and predicts the clusters.

    Each image has one embedding in a bank: the mean direction of its views in the last epoch. k-means
    groups them several times, and the centers are the weights of the classifiers: nothing has to be
    learned anew after a clustering. Before the first epoch, one pass over the images fills the bank.

    Args:
        backbone: built `keras.Model` that maps images to `(batch, features)`; it is evaluated and
            exported.
        projector: layer that maps features to embeddings; `None` uses the reference's, 2048 hidden
            units with batch normalization and 128 outputs.
        size: number of images of the data set.
        clusters: number of clusters of each clustering. About a tenth of the images is the most that is
            sensible.
        temperature: temperature of the classifiers, positive.
        seed: seed of k-means, which also depends on the epoch.

    Raises:
        ValueError: if a number is out of range or `backbone` does not return one vector per image.

    Example:
        ```python
        model = DeepCluster(backbone, size=len(source), clusters=(300, 300, 300))
        model.compile(optimizer=keras_ssl.optimizers.LARS(0.3))
        policy = keras_ssl.augment.simclr(32)
        model.fit(keras_ssl.data.views(source, policy, batch_size=256, indices=True), epochs=100)
        ```

    Source: Caron et al. 2018, "Deep Clustering for Unsupervised Learning of Visual Features"; Caron et
    al. 2020 (SwAV), appendix D, for the second version; `main_deepclusterv2.py` of
    facebookresearch/swav, which clusters one view's embeddings per clustering, not the mean.
    """

    takes_indices = True

    def __init__(
        self,
        backbone: keras.Model,
        projector: keras.layers.Layer | None = None,
        size: int = 50_000,
        clusters: Sequence[int] = (3000, 3000, 3000),
        temperature: float = 0.1,
        seed: int = 0,
        **kwargs,
    ):
        if temperature <= 0:
            raise ValueError(f"`temperature` must be positive. Received: temperature={temperature}")
        super().__init__(backbone, **kwargs)
        default = MLPHead(128, 2048, batch_norm=True, name="projector")
        self.projector = self.build_head(projector or default)
        self.size = size
        self.clusters = tuple(clusters)
        self.temperature = temperature
        self.seed = seed
        dim = self.projector.compute_output_shape(backbone.output_shape)[-1]
        self.bank = EmbeddingBank(size, dim, momentum=0.0)
        self.clusterings = Clusters(size, dim, self.clusters, seed)
        self.cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def ssl_loss(self, *views_and_index):
        """Returns the loss of views `(batch, height, width, channels)` and indices `(batch,)`."""
        *views, index = views_and_index
        embeddings = [self.embed(view) for view in views]
        loss = 0.0
        for number, centers in enumerate(self.clusterings.centers):
            labels = self.clusterings.read(number, index)
            # An image that no batch has held yet has no cluster.
            has_label = tf.cast(labels >= 0, tf.float32)
            for z in embeddings:
                scores = tf.matmul(z, centers, transpose_b=True) / self.temperature
                loss += self.cross_entropy(tf.maximum(labels, 0), scores, sample_weight=has_label)
        self.after_batch(self.bank.enter, index, self.mean_direction(embeddings))
        return loss / (len(views) * len(self.clusters))

    def embed(self, view, training=True):
        """Returns the `(batch, dim)` float32 embeddings of a view, of length 1."""
        z = self.projector(self.features(view, training=training), training=training)
        return tf.math.l2_normalize(tf.cast(z, tf.float32), axis=-1)

    @staticmethod
    def mean_direction(embeddings):
        """Returns the mean direction of the views' embeddings, `(batch, dim)`, without gradient."""
        return tf.math.l2_normalize(tf.stop_gradient(tf.add_n(embeddings)), axis=-1)

    def fit(self, x=None, *args, **kwargs):
        """Trains like `SelfSupervised.fit`, and clusters the images at the start of each epoch."""
        if _number(self.bank.visits) == 0 and isinstance(x, tf.data.Dataset):
            self.fill_bank(x, kwargs.get("steps_per_epoch"))
        callback = _ClusterEachEpoch()
        kwargs["callbacks"] = with_callback(self, kwargs.get("callbacks"), callback)
        return super().fit(x, *args, **kwargs)

    def fill_bank(self, batches: tf.data.Dataset, steps: int | None = None):
        """Stores an embedding of every image, computed in inference mode. `fit` calls it once.

        Args:
            batches: batches of views and indices, as for `fit`.
            steps: number of batches; `None` for a pass over the data.
        """
        self.split_batch(finished_spec(batches))
        self._set_finish(get_finish(batches))
        strategy = self.distribute_strategy
        shares = distribute.get_shares(batches)
        if shares is not None:  # a pass over `batches` would count as an epoch
            steps = steps or shares.steps_per_epoch
            batches = shares.distributed(strategy)
        elif strategy.num_replicas_in_sync > 1:
            batches = strategy.experimental_distribute_dataset(batches)

        def enter(batch):
            (*views, index), _ = self.split_batch(self._finish_views(batch))
            embeddings = [self.embed(view, training=False) for view in views]
            self.bank.enter(index, self.mean_direction(embeddings))

        step = tf.function(lambda batch: strategy.run(enter, (batch,)), autograph=False)
        for number, batch in enumerate(batches):
            step(batch)
            if number + 1 == steps:
                break

    def panels(self, *views_and_index) -> list[Panel]:
        """Returns the views, and the cluster of each image in the first clustering."""
        *views, index = views_and_index
        first, *others = super().panels(*views)
        labels = np.asarray(self.clusterings.read(0, index))
        captions = [f"cluster {label}" if label >= 0 else "no cluster yet" for label in labels]
        return [replace(first, captions=captions), *others]

    def cluster(self, epoch: int):
        """Clusters the images for an epoch, unless this has been done before an interruption."""
        if _number(self.clusterings.epochs) != epoch + 1:
            self.clusterings.update(tf.convert_to_tensor(self.bank.embeddings), epoch)


def _number(variable: keras.Variable) -> int:
    """Returns an integer variable's value, also if each replica has a copy."""
    return int(tf.convert_to_tensor(variable))


class _ClusterEachEpoch(keras.callbacks.Callback):
    """Clusters the images at the start of each epoch."""

    def on_epoch_begin(self, epoch: int, logs: Any = None):
        model: Any = self.model
        model.cluster(epoch)
