"""The base class of self-supervised methods: a backbone, a loss of views, an optional probe."""

import abc
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ssl.augment.constructor_arguments import constructor_arguments
from keras_ssl.augment.finish import finished_spec
from keras_ssl.backbones import maps
from keras_ssl.layers import LinearProbe
from keras_ssl.layers.in_chunks import check_chunks, in_chunks
from keras_ssl.methods.checks import validate_backbone, validate_probe
from keras_ssl.methods.learner import Learner
from keras_ssl.methods.panel import Panel


class SelfSupervised(Learner):
    """A model that learns from views of unlabeled images.

    A method is a subclass that creates its networks in `__init__` and defines `ssl_loss(*views)`.
    `Learner` provides the training step and support for distribution strategies; this class adds
    saving.

    Calling the model, or `predict`, returns the backbone's features, so a method can be used like
    an encoder.

    Args:
        backbone: built `keras.Model` that maps images `(batch, height, width, channels)` to
            features `(batch, features)`.
        probe: linear classifier, trained alongside the method on the labels of
            `keras_ssl.data.views(..., labels=True)`, without any effect on the encoder. `None`
            means no probe; batches then have no labels.

    Attributes:
        chunks: number of chunks in which `features` processes a batch; set by `compile`.

    Raises:
        TypeError: if `backbone` is not a `keras.Model`, or `probe` not a `LinearProbe`.
        ValueError: if `backbone` is not built or does not return one vector per image.

    Example: see `SimCLR`; docs/add_a_method.md shows how to write another.
    """

    least_views = 2

    def __init__(self, backbone: keras.Model, probe: LinearProbe | None = None, **kwargs):
        super().__init__(**kwargs)
        self.backbone = validate_backbone(backbone)
        self.probe = None if probe is None else self.build_head(validate_probe(probe))
        self.takes_labels = probe is not None
        self.chunks = 1
        networks: dict[str, keras.Model] = {}

        def map_network(block: str) -> keras.Model:
            if block not in networks:
                networks[block] = maps(self.backbone, block)
            return networks[block]

        # A function: Keras would save the networks of an attribute a second time.
        self._map_network = map_network

    @abc.abstractmethod
    def ssl_loss(self, *views):
        """Returns the scalar loss of one batch of views, each `(batch, height, width, channels)`."""

    def build_head(
        self, head: keras.layers.Layer, after: keras.layers.Layer | None = None
    ) -> keras.layers.Layer:
        """Builds and returns a layer that takes the backbone's features, or the output of `after`."""
        if not head.built:
            shape = self.backbone.output_shape
            head.build(shape if after is None else after.compute_output_shape(shape))
        return head

    def features(self, images, network: keras.Model | None = None, training: bool = True):
        """Returns features for the loss, `(batch, features)`, computed in `chunks` parts.

        Args:
            images: `(batch, height, width, channels)`. No gradient flows back to the images.
            network: maps images to features; `None` for the backbone.
            training: passed to the network.
        """
        return in_chunks(network or self.backbone, images, self.chunks, training)

    def feature_maps(self, images, block: str, training: bool = True):
        """Returns the feature maps of a block of the backbone, computed in `chunks` parts.

        Args:
            images: `(batch, height, width, channels)`. No gradient flows back to the images.
            block: name of a layer of the backbone, such as "block4".
            training: passed to the network.

        Returns:
            `(batch, map_height, map_width, map_channels)` tensor.

        Raises:
            ValueError: if the backbone is not functional or has no such layer.
        """
        return self.features(images, self._map_network(block), training)

    def call(self, images, training=False):
        """Maps images to the backbone's features, `(batch, features)`."""
        return self.backbone(images, training=training)

    def batch_loss(self, views, labels):
        """Returns the self-supervised loss, which does not use labels."""
        return self.ssl_loss(*views)

    def side_loss(self, views, labels):
        """Returns the loss of the probe, which does not affect the encoder."""
        if self.probe is None:
            return 0.0
        return self.probe.loss(self.features(views[0], training=False), labels)

    def panels(self, *views) -> list[Panel]:
        """Returns rows of pictures that show what the method does with a batch, the views by default.

        Args:
            *views: what `ssl_loss` takes.
        """
        shown = [np.clip(view, 0, 1) for view in views if len(view.shape) == 4]
        return [Panel(f"View {number}", view) for number, view in enumerate(shown, start=1)]

    @property
    def metrics(self):
        """The metrics that `fit` resets at the start of an epoch."""
        return (
            [self.loss_tracker] if self.probe is None else [self.loss_tracker, self.probe.accuracy]
        )

    def compile(self, optimizer, jit_compile: bool | str = "auto", chunks: int = 1, **kwargs):
        """Configures training like `keras.Model.compile`, but without a `loss`.

        Args:
            optimizer: Keras optimizer or its name.
            jit_compile: "auto" compiles with XLA on accelerators only. On CPUs, TensorFlow's oneDNN
                kernels are faster than XLA's.
            chunks: number of chunks of each replica's batch that the networks process one at a
                time. This needs the memory of one chunk; the loss is that of the full batch. See
                docs/large_batches.md.
            **kwargs: other arguments of `keras.Model.compile`.

        Raises:
            ValueError: if `chunks` is not a positive integer.
        """
        check_chunks(chunks)
        super().compile(optimizer, jit_compile, **kwargs)
        self.chunks = chunks

    def get_compile_config(self):
        """Returns the arguments of `compile` in serialized form."""
        return {**super().get_compile_config(), "chunks": self.chunks}

    def fit(self, x=None, *args, **kwargs):
        """Trains on batches of views; otherwise like `keras.Model.fit`.

        Args:
            x: `tf.data.Dataset` of (view_1, view_2) from `keras_ssl.data.views`; of
                ((view_1, view_2), label) for a model with a probe.
            *args: other arguments of `keras.Model.fit`.
            **kwargs: other arguments of `keras.Model.fit`. Without `steps_per_epoch`, an epoch is a
                full pass over the data.

        Raises:
            ValueError: before training, if a batch is not a tuple of views of the same images, or
                the batch size is not divisible by the number of devices times the number of chunks.
        """
        if isinstance(x, tf.data.Dataset):
            views, _ = self.split_batch(finished_spec(x))
            replicas = self.distribute_strategy.num_replicas_in_sync
            check_chunks(self.chunks, views[0].shape[0], replicas)
        return super().fit(x, *args, **kwargs)

    def test_step(self, data):
        """Raises TypeError, because a self-supervised loss says little about the encoder."""
        raise TypeError(
            "A self-supervised model has no test step. Expected: keras_ssl.evaluate.knn or .linear, "
            "or the callback keras_ssl.callbacks.KNNMonitor. Received: a call of `evaluate`, or "
            "`validation_data` in `fit`."
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, including networks, in serialized form."""
        return {
            "name": self.name,
            **{
                name: keras.saving.serialize_keras_object(value)
                for name, value in {**constructor_arguments(self), "probe": self.probe}.items()
            },
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Creates a model from the return value of `get_config`."""
        return cls(
            **{
                name: keras.saving.deserialize_keras_object(value, custom_objects=custom_objects)
                for name, value in config.items()
            }
        )
