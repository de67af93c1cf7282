"""What all methods share: a backbone, views that become a loss, and a probe beside it."""

import abc
from typing import Any

import keras
import tensorflow as tf

from keras_ssl.augment.finish import finished_spec
from keras_ssl.layers import LinearProbe
from keras_ssl.layers.in_chunks import check_chunks, in_chunks
from keras_ssl.methods.checks import checked_backbone, checked_probe
from keras_ssl.methods.learner import Learner
from keras_ssl.serialization import constructor_arguments


class SelfSupervised(Learner):
    """A network that learns from views of unlabelled images.

    A method is a subclass with its networks in `__init__` and one function, `ssl_loss(*views)`. The
    training step, and running under a distribution strategy, are those of every `Learner`; saving is
    here.

    Calling the model, and `predict`, return the backbone's features, so that a method stands wherever
    an encoder does.

    Args:
        backbone: built `keras.Model` that maps images `(batch, height, width, channels)` to features
            `(batch, features)`.
        probe: linear classifier that learns beside the method from the labels of
            `keras_ssl.data.views(..., labels=True)`, without any effect on the encoder; `None` for
            none, and no labels.

    Attributes:
        chunks: parts in which `features` computes a batch; what `compile` was told.

    Raises:
        TypeError: if `backbone` is not a `keras.Model`, or `probe` not a `LinearProbe`.
        ValueError: if `backbone` is not built or does not return one vector per image.

    Example: see `SimCLR`; docs/add_a_method.md shows how to write another.
    """

    least_views = 2

    def __init__(self, backbone: keras.Model, probe: LinearProbe | None = None, **kwargs):
        super().__init__(**kwargs)
        self.backbone = checked_backbone(backbone)
        self.probe = None if probe is None else self.build_head(checked_probe(probe))
        self.takes_labels = probe is not None
        self.chunks = 1

    @abc.abstractmethod
    def ssl_loss(self, *views):
        """Returns the scalar loss of one batch of views, each `(batch, height, width, channels)`."""

    def build_head(
        self, head: keras.layers.Layer, after: keras.layers.Layer | None = None
    ) -> keras.layers.Layer:
        """Builds a layer that takes the backbone's features, or another head's output; returns it."""
        if not head.built:
            shape = self.backbone.output_shape
            head.build(shape if after is None else after.compute_output_shape(shape))
        return head

    def features(self, images, network: keras.Model | None = None, training: bool = True):
        """Returns features for the loss, `(batch, features)`; in chunks if the model is compiled so.

        Args:
            images: `(batch, height, width, channels)`. No gradient flows to them.
            network: maps images to features; `None` for the backbone.
            training: passed to the network.
        """
        return in_chunks(network or self.backbone, images, self.chunks, training)

    def call(self, images, training=False):
        """Maps images to the backbone's features, `(batch, features)`."""
        return self.backbone(images, training=training)

    def batch_loss(self, views, labels):
        """Returns the self-supervised loss; labels never reach it."""
        return self.ssl_loss(*views)

    def side_loss(self, views, labels):
        """Returns the loss of the probe, which has no effect on the encoder."""
        if self.probe is None:
            return 0.0
        return self.probe.loss(self.features(views[0], training=False), labels)

    @property
    def metrics(self):
        """The metrics that `fit` resets at the start of an epoch."""
        return (
            [self.loss_tracker] if self.probe is None else [self.loss_tracker, self.probe.accuracy]
        )

    def compile(self, optimizer, jit_compile: bool | str = "auto", chunks: int = 1, **kwargs):
        """Configures training, as `keras.Model.compile` does; there is no `loss` to pass.

        Args:
            optimizer: Keras optimizer or its name.
            jit_compile: "auto" compiles with XLA on accelerators only: on CPUs TensorFlow's oneDNN
                kernels are faster than XLA's.
            chunks: parts of each replica's batch that pass through the networks one after the other,
                with the memory of one of them and the loss of the whole batch; docs/large_batches.md.
            **kwargs: other arguments of `keras.Model.compile`.

        Raises:
            ValueError: if `chunks` is not a positive integer.
        """
        check_chunks(chunks)
        super().compile(optimizer, jit_compile, **kwargs)
        self.chunks = chunks

    def get_compile_config(self):
        """Returns the arguments of `compile`, in serialised form."""
        return {**super().get_compile_config(), "chunks": self.chunks}

    def fit(self, x=None, *args, **kwargs):
        """Trains on batches of views, as `keras.Model.fit` does.

        Args:
            x: `tf.data.Dataset` of (view_1, view_2), as `keras_ssl.data.views` makes it; of
                ((view_1, view_2), label) for a model with a probe.
            *args: other arguments of `keras.Model.fit`.
            **kwargs: other arguments of `keras.Model.fit`; an epoch is a full pass over the data unless
                `steps_per_epoch` is among them.

        Raises:
            ValueError: before any training, if a batch is not a tuple of views of the same images, or
                does not divide evenly among the strategy's devices and the chunks.
        """
        if isinstance(x, tf.data.Dataset):
            views, _ = self.checked_batch(finished_spec(x))
            replicas = self.distribute_strategy.num_replicas_in_sync
            check_chunks(self.chunks, views[0].shape[0], replicas)
        return super().fit(x, *args, **kwargs)

    def test_step(self, data):
        """Refuses: a self-supervised loss says little about an encoder."""
        raise TypeError(
            "A self-supervised model has no test step. Expected: keras_ssl.evaluate.knn or .linear, "
            "or the callback keras_ssl.callbacks.KNNMonitor. Received: a call of `evaluate`, or "
            "`validation_data` in `fit`."
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, networks included, in serialised form."""
        return {
            "name": self.name,
            **{
                name: keras.saving.serialize_keras_object(value)
                for name, value in {**constructor_arguments(self), "probe": self.probe}.items()
            },
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Builds the model from what `get_config` returned."""
        return cls(
            **{
                name: keras.saving.deserialize_keras_object(value, custom_objects=custom_objects)
                for name, value in config.items()
            }
        )
