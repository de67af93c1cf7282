"""The base class of models that train on batches of views: the training step and `fit`."""

import abc
import contextlib
import threading
import warnings
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_ssl import distribute
from keras_ssl.augment.finish import Finish, finished_spec, get_finish
from keras_ssl.layers.early_momentum import early_momentum
from keras_ssl.layers.in_chunks import sequential_passes
from keras_ssl.methods.checks import split_views_and_labels, validate_batch
from keras_ssl.methods.epoch_boundaries import EpochBoundaries, with_callback

# Updates that the current step has deferred. Each replica traces its step in a separate thread, and
# the threads take turns, so an attribute of the model would mix up their updates.
_DEFERRED = threading.local()


class Learner(keras.Model, abc.ABC):
    """A model that trains on batches of `keras_ssl.data.views` with plain `fit`.

    Self-supervised methods, distillation and fine-tuning are learners. A subclass creates its
    networks in `__init__` and defines the loss of a batch, `batch_loss`. This class provides the
    training step, `fit`, and support for distribution strategies.

    Attributes:
        takes_indices: whether the indices of the images follow the views in a batch.
        takes_keys: whether a random key of each image, (batch, 2) uint32, follows the views and the
            indices in a batch. All random numbers that the loss needs come from it (see
            `keras_ssl.augment.random`), so that they are equal after a resume and on any number of
            devices.
        takes_clips: whether the views of a batch are the frames of clips, as from
            `keras_ssl.data.views(..., clips=True)`.
        takes_labels: whether batches have labels, ((view, ...), label).
        least_views: minimum number of views in a batch.
        view_count: exact number of views in a batch; `None` for any number from `least_views` on.
        has_early_momentum: whether the momentum of batch normalization is smaller in the first steps,
            so that inference agrees with training in short runs, too; see
            `keras_ssl.layers.early_momentum`.
    """

    train_function: Any  # an attribute of keras.Model, set by `make_train_function`

    takes_indices = False
    takes_keys = False
    takes_clips = False
    takes_labels = False
    least_views = 1
    view_count: int | None = None
    has_early_momentum = True

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.last_batch = None
        self._boundaries: EpochBoundaries | None = None
        self._finish: Finish | None = None  # makes the views if the data set only has crops
        self.loss_tracker = keras.metrics.Mean(name="loss")
        # `train_step` never calls the model itself, so Keras would consider it unbuilt and not save
        # it.
        self.built = True

    @abc.abstractmethod
    def batch_loss(self, views: tuple, labels: tf.Tensor | None) -> tf.Tensor:
        """Returns the scalar loss of one batch.

        Args:
            views: tensors `(batch, height, width, channels)`; with `takes_indices`, followed by the
                indices of the images, `(batch,)`; with `takes_keys`, by their keys, `(batch, 2)`.
            labels: `(batch,)` integers, -1 for an image without a label; `None` unless
                `takes_labels`.
        """

    def side_loss(self, views: tuple, labels: tf.Tensor | None) -> tf.Tensor | float:
        """Returns a term to minimize together with the loss, but not to report as part of it."""
        return 0.0

    def split_batch(self, data: Any) -> tuple[tuple, Any]:
        """Splits a batch, or the `element_spec` of a data set, into views and labels.

        Raises:
            ValueError: if this model does not accept such batches.
        """
        return validate_batch(
            data,
            self.takes_indices,
            self.takes_labels,
            self.least_views,
            self.view_count,
            self.takes_keys,
            self.takes_clips,
        )

    def checked_batch(self, data: Any) -> tuple[tuple, Any]:
        """Deprecated name of `split_batch`."""
        warnings.warn(
            "`checked_batch` is deprecated: use `split_batch`", DeprecationWarning, stacklevel=2
        )
        return self.split_batch(data)

    def after_step(self, update: Callable, *values):
        """Defers an update of state until the optimizer has updated the weights.

        Use it for state that follows the weights, such as a target network. Call it in `ssl_loss`;
        outside of a training step it does nothing.

        Args:
            update: called as `update(*values, moved)` in the training step. `moved` is a scalar
                bool tensor; it is false if gradients were only accumulated, or if loss scaling
                skipped the step. The update must then keep the state, by `tf.where`, not by a
                branch.
            *values: tensors.
        """
        getattr(_DEFERRED, "after_step", []).append((update, values))

    def after_batch(self, update: Callable, *values):
        """Defers an update of state until the optimizer has received the batch's gradients.

        Use it for state that collects batches, such as a queue of keys. It is like `after_step`,
        but the last argument is also true if the gradients were accumulated.
        """
        getattr(_DEFERRED, "after_batch", []).append((update, values))

    def train_step(self, data):
        """Trains on one batch and returns the metrics, such as `{"loss": ...}`."""
        views, labels = self.split_batch(data)
        after_step: list[tuple] = []
        after_batch: list[tuple] = []
        _DEFERRED.after_step, _DEFERRED.after_batch = after_step, after_batch
        with sequential_passes(), tf.GradientTape() as tape:
            loss = self.batch_loss(views, labels)
            # Gradients are summed over replicas, so each replica adds its share of a weight
            # penalty. `keras.losses.Loss` has already scaled the loss in the same way.
            replicas = tf.cast(distribute.replica_count(), loss.dtype)
            for penalty in self.losses:
                loss += tf.cast(penalty, loss.dtype) / replicas
            objective = loss + tf.cast(self.side_loss(views, labels), loss.dtype)
            scaled_objective = self.optimizer.scale_loss(objective)
        _DEFERRED.__dict__.clear()  # later calls are outside of the step and do nothing
        variables = self.trainable_variables
        gradients = tape.gradient(scaled_objective, variables)
        moved, accepted = self._apply_gradients(gradients, variables)
        for update, values in after_step:
            update(*values, moved)
        for update, values in after_batch:
            update(*values, accepted)
        self.loss_tracker.update_state(loss * replicas)
        return {metric.name: metric.result() for metric in self.metrics}

    def _apply_gradients(self, gradients: list, variables: list) -> tuple[tf.Tensor, tf.Tensor]:
        """Applies gradients; returns whether weights were updated and gradients were used."""
        # The optimizer counts steps and batches. With gradient accumulation, several batches make
        # one step. Batches that loss scaling skips are counted in neither.
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
        return [self.loss_tracker]

    def compile(self, optimizer, jit_compile: bool | str = "auto", **kwargs):
        """Configures training like `keras.Model.compile`, but without a `loss`.

        Args:
            optimizer: Keras optimizer or its name.
            jit_compile: "auto" compiles with XLA on accelerators only. On CPUs, TensorFlow's oneDNN
                kernels are faster than XLA's.
            **kwargs: other arguments of `keras.Model.compile`.
        """
        if jit_compile == "auto":
            jit_compile = bool(tf.config.list_logical_devices("GPU"))
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)

    def compile_from_config(self, config):
        """Compiles a loaded model with the arguments with which it was saved."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def fit(self, x=None, *args, epochs=1, initial_epoch=0, steps_per_epoch=None, **kwargs):
        """Trains on batches of views; otherwise like `keras.Model.fit`.

        Args:
            x: `tf.data.Dataset` of batches from `keras_ssl.data.views`.
            *args: other arguments of `keras.Model.fit`.
            epochs: total number of epochs, including those before `initial_epoch`.
            initial_epoch: index of the epoch to start with.
            steps_per_epoch: batches per epoch; by default a full pass over the data.
            **kwargs: other arguments of `keras.Model.fit`.

        Raises:
            ValueError: before training, if a batch is not a tuple of views of the same images, or
                the batch size is not divisible by the number of devices.
        """
        self._boundaries = None
        self._set_finish(get_finish(x))
        if isinstance(x, tf.data.Dataset):
            self.split_batch(finished_spec(x))
            shares = distribute.get_shares(x)
            length = int(x.cardinality())
            if shares is not None:
                x = shares.distributed(self.distribute_strategy)
                if steps_per_epoch is None:
                    steps_per_epoch = shares.steps_per_epoch
                    skipped = shares.start % steps_per_epoch
                    self._boundaries = EpochBoundaries(steps_per_epoch, skipped)
                    callbacks = kwargs.get("callbacks")
                    kwargs["callbacks"] = with_callback(self, callbacks, self._boundaries)
            elif steps_per_epoch is None and length > 0:
                # Without `steps_per_epoch`, Keras makes two iterators per epoch and drops one.
                steps_per_epoch = length
                # If the augmentations are a large graph, a new iterator in each epoch costs a
                # second or more. A repeated data set needs only one iterator, but an execution of
                # several steps must not read beyond the end of an epoch.
                if length % self.steps_per_execution == 0:
                    x = x.repeat(max(1, epochs - initial_epoch))
        kwargs.setdefault("shuffle", False)  # Keras would warn about `shuffle` for a data set
        return super().fit(
            x,
            *args,
            epochs=epochs,
            initial_epoch=initial_epoch,
            steps_per_epoch=steps_per_epoch,
            **kwargs,
        )

    def _set_finish(self, finish: Finish | None):
        if finish is not self._finish:
            self._finish = finish
            self.train_function = None  # built for batches of another structure

    def _finish_views(self, batch: Any) -> Any:
        return batch if self._finish is None else self._finish(batch)

    def make_train_function(self, force=False):
        """Builds the function that `fit` calls; see `distribute.multi_step_function`."""
        if self.train_function is not None and not force:
            return
        with self.distribute_strategy.scope():
            self.optimizer.build(self.trainable_variables)
        self.train_function = distribute.multi_step_function(
            self.distribute_strategy,
            lambda batch: self.train_step(self._finish_views(batch)),
            steps_per_execution=self.steps_per_execution,
            jit_compile=self.jit_compile,
            run_eagerly=self.run_eagerly,
            watch=self._set_last_batch,
            limit=self._max_batches,
            around=self._around_step,
        )

    def _around_step(self) -> contextlib.AbstractContextManager:
        if not self.has_early_momentum:
            return contextlib.nullcontext()
        return early_momentum(self, self.optimizer.iterations)

    def _max_batches(self) -> int:
        """Returns how many batches the next execution may take."""
        boundaries = self._boundaries
        left = self.steps_per_execution if boundaries is None else boundaries.left
        return min(left, self.steps_per_execution)

    def _set_last_batch(self, batch: Any):
        def make_views():
            parts, _ = split_views_and_labels(self._finish_views(batch))
            return tuple(part for part in parts if len(part.shape) == 4)

        self._last_views = make_views  # called only when `last_batch` is read, which is rare

    @property
    def last_batch(self) -> tuple | None:
        """The views of the last batch of `fit` (on the first replica), or `None` before training."""
        return self._last_views()

    @last_batch.setter
    def last_batch(self, views: tuple | None):
        self._last_views = lambda: views

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Keras would take a batch from the data to build the model, which is already built, and
        # would fail to reduce that batch under strategies with several workers.
        pass
