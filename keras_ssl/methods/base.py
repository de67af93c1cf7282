"""What all methods share: one training step, from views to a loss to an update."""

import abc
import threading
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_ssl import distribute
from keras_ssl.layers import LinearProbe
from keras_ssl.layers.in_chunks import check_chunks, in_chunks, passes_in_turn
from keras_ssl.methods.checks import (
    checked_backbone,
    checked_batch,
    checked_probe,
    views_and_labels,
)
from keras_ssl.methods.whole_passes import WholePasses, with_callback
from keras_ssl.serialization import constructor_arguments

# What the step under way has postponed. Each replica traces its step in a thread of its own, and
# they take turns: a list on the model would mix them.
_POSTPONED = threading.local()


class SelfSupervised(keras.Model, abc.ABC):
    """A network that learns from views of unlabelled images.

    A method is a subclass with its networks in `__init__` and one function, `ssl_loss(*views)`. The
    training step, saving, and running under a distribution strategy are here.

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
        last_batch: the views that the latest execution of `fit` ended with (of the first replica), or
            `None`.

    Raises:
        TypeError: if `backbone` is not a `keras.Model`, or `probe` not a `LinearProbe`.
        ValueError: if `backbone` is not built or does not return one vector per image.

    Example: see `SimCLR`; docs/add_a_method.md shows how to write another.
    """

    train_function: Any  # Keras' own, made by `make_train_function`

    takes_indices = False  # whether the numbers of the images follow the views in a batch

    def __init__(self, backbone: keras.Model, probe: LinearProbe | None = None, **kwargs):
        super().__init__(**kwargs)
        self.backbone = checked_backbone(backbone)
        self.probe = None if probe is None else self.build_head(checked_probe(probe))
        self.last_batch: tuple | None = None
        self.chunks = 1
        self._passes: WholePasses | None = None
        self.loss_tracker = keras.metrics.Mean(name="loss")
        # `train_step` never calls the model itself, and Keras cannot save what it takes for unbuilt.
        self.built = True

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

    def after_step(self, update: Callable, *values):
        """Postpones an update of state until the optimizer has moved the weights.

        For what follows the weights, such as a momentum network. `ssl_loss` calls it; outside a
        training step it does nothing.

        Args:
            update: called as `update(*values, moved)` in the training step, `moved` being a scalar bool
                tensor: false where gradients are being accumulated or loss scaling skipped the step.
                It must leave the state as it is then, by a choice of values, not by a branch.
            *values: tensors.
        """
        getattr(_POSTPONED, "after_step", []).append((update, values))

    def after_batch(self, update: Callable, *values):
        """Postpones an update of state until the optimizer has taken the batch's gradients.

        For what collects batches, such as a queue of keys. As `after_step`, but `moved` is true also
        where the gradients were accumulated.
        """
        getattr(_POSTPONED, "after_batch", []).append((update, values))

    def call(self, images, training=False):
        """Maps images to the backbone's features, `(batch, features)`."""
        return self.backbone(images, training=training)

    def train_step(self, data):
        """Takes one step on a batch and returns `{"loss": ...}`."""
        views, labels = checked_batch(data, self.takes_indices, self.probe)
        after_step: list[tuple] = []
        after_batch: list[tuple] = []
        _POSTPONED.after_step, _POSTPONED.after_batch = after_step, after_batch
        with passes_in_turn(), tf.GradientTape() as tape:
            loss = self.ssl_loss(*views)
            # Gradients are summed over replicas, so each brings its share of a penalty on weights.
            # `keras.losses.Loss` has done the same for the loss itself.
            replicas = tf.cast(distribute.replica_count(), loss.dtype)
            for penalty in self.losses:
                loss += tf.cast(penalty, loss.dtype) / replicas
            objective = loss
            if self.probe is not None:
                features = self.features(views[0], training=False)
                objective += tf.cast(self.probe.loss(features, labels), loss.dtype)
            scaled_objective = self.optimizer.scale_loss(objective)
        _POSTPONED.__dict__.clear()  # later calls are outside the step, and do nothing
        variables = self.trainable_variables
        gradients = tape.gradient(scaled_objective, variables)
        moved, accepted = self._apply(gradients, variables)
        for update, values in after_step:
            update(*values, moved)
        for update, values in after_batch:
            update(*values, accepted)
        self.loss_tracker.update_state(loss * replicas)
        return {metric.name: metric.result() for metric in self.metrics}

    def _apply(self, gradients: list, variables: list) -> tuple[tf.Tensor, tf.Tensor]:
        """Applies gradients; returns whether weights moved, and whether the gradients were taken."""
        # The steps that were made, and the batches that were taken: several batches make a step
        # where gradients are accumulated, and neither counts what loss scaling skips.
        optimizer: Any = self.optimizer
        inner = getattr(optimizer, "inner_optimizer", optimizer)

        def counts():
            return tf.convert_to_tensor(optimizer.iterations), tf.convert_to_tensor(
                inner._iterations
            )

        before = counts()
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        moved, accepted = (now > then for now, then in zip(counts(), before, strict=True))
        return moved, accepted

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
        if jit_compile == "auto":
            jit_compile = bool(tf.config.list_logical_devices("GPU"))
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)
        self.chunks = chunks

    def get_compile_config(self):
        """Returns the arguments of `compile`, in serialised form."""
        return {**super().get_compile_config(), "chunks": self.chunks}

    def compile_from_config(self, config):
        """Compiles a loaded model as it was compiled when it was saved."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def fit(self, x=None, *args, epochs=1, initial_epoch=0, steps_per_epoch=None, **kwargs):
        """Trains on batches of views, as `keras.Model.fit` does.

        Args:
            x: `tf.data.Dataset` of (view_1, view_2), as `keras_ssl.data.views` makes it; of
                ((view_1, view_2), label) for a model with a probe.
            *args: other arguments of `keras.Model.fit`.
            epochs: passes over the data, in all.
            initial_epoch: epoch to begin with.
            steps_per_epoch: batches of an epoch; a full pass unless told.
            **kwargs: other arguments of `keras.Model.fit`.

        Raises:
            ValueError: before any training, if a batch is not a tuple of views of the same images, or
                does not divide evenly among the strategy's devices.
        """
        self._passes = None
        if isinstance(x, tf.data.Dataset):
            views, _ = checked_batch(x.element_spec, self.takes_indices, self.probe)
            replicas = self.distribute_strategy.num_replicas_in_sync
            check_chunks(self.chunks, views[0].shape[0], replicas)
            shares = distribute.shares_of(x)
            length = int(x.cardinality())
            if shares is not None:
                x = shares.distributed(self.distribute_strategy)
                if steps_per_epoch is None:
                    steps_per_epoch = shares.steps_per_epoch
                    self._passes = WholePasses(steps_per_epoch, shares.start % steps_per_epoch)
                    kwargs["callbacks"] = with_callback(self, kwargs.get("callbacks"), self._passes)
            elif steps_per_epoch is None and length > 0:
                # Without it Keras makes two iterators per epoch and drops one.
                steps_per_epoch = length
                # A new iterator in each epoch costs a second or more where the augmentations are a
                # large graph. One that is repeated starts once; it must not be read across the end
                # of an epoch, by an execution of several steps.
                if length % self.steps_per_execution == 0:
                    x = x.repeat(max(1, epochs - initial_epoch))
        kwargs.setdefault("shuffle", False)  # the data set has its order; Keras would warn
        return super().fit(
            x,
            *args,
            epochs=epochs,
            initial_epoch=initial_epoch,
            steps_per_epoch=steps_per_epoch,
            **kwargs,
        )

    def make_train_function(self, force=False):
        """Builds the function that `fit` calls: exact under every strategy."""
        if self.train_function is not None and not force:
            return
        with self.distribute_strategy.scope():
            self.optimizer.build(self.trainable_variables)
        self.train_function = distribute.multi_step_function(
            self.distribute_strategy,
            self.train_step,
            steps_per_execution=self.steps_per_execution,
            jit_compile=self.jit_compile,
            run_eagerly=self.run_eagerly,
            watch=self._remember,
            limit=self._batches_of_execution,
        )

    def _batches_of_execution(self) -> int:
        left = self.steps_per_execution if self._passes is None else self._passes.left
        return min(left, self.steps_per_execution)

    def _remember(self, batch: Any):
        views, _ = views_and_labels(batch)
        self.last_batch = tuple(view for view in views if len(view.shape) == 4)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Keras would take a batch from the data to build a model that is built, and fails to reduce
        # that batch under strategies of several workers.
        pass

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
