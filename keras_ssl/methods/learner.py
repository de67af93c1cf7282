"""What is trained on batches of views: one training step under every strategy, and its `fit`."""

import abc
import threading
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_ssl import distribute
from keras_ssl.augment.finish import Finish, finish_of, finished_spec
from keras_ssl.layers.in_chunks import passes_in_turn
from keras_ssl.methods.checks import checked_batch, views_and_labels
from keras_ssl.methods.whole_passes import WholePasses, with_callback

# What the step under way has postponed. Each replica traces its step in a thread of its own, and
# they take turns: a list on the model would mix them.
_POSTPONED = threading.local()


class Learner(keras.Model, abc.ABC):
    """A model that learns from the batches of `keras_ssl.data.views`, by plain `fit`.

    Self-supervised methods, the distillation of a student and fine-tuning are learners. A subclass
    makes its networks in `__init__` and says what a batch's loss is (`batch_loss`); the training step,
    `fit`, and running under a distribution strategy are here.

    Attributes:
        takes_indices: whether the numbers of the images follow the views in a batch.
        takes_labels: whether labels come with a batch, as ((view, ...), label).
        least_views: number of views that a batch must have.
    """

    train_function: Any  # Keras' own, made by `make_train_function`

    takes_indices = False
    takes_labels = False
    least_views = 1

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.last_batch = None
        self._passes: WholePasses | None = None
        self._finish: Finish | None = None  # makes views of what the data have, if that is less
        self.loss_tracker = keras.metrics.Mean(name="loss")
        # `train_step` never calls the model itself, and Keras cannot save what it takes for unbuilt.
        self.built = True

    @abc.abstractmethod
    def batch_loss(self, views: tuple, labels: tf.Tensor | None) -> tf.Tensor:
        """Returns the scalar loss of one batch.

        Args:
            views: tensors `(batch, height, width, channels)`; with `takes_indices` the images' numbers
                `(batch,)` behind them.
            labels: `(batch,)` integers, -1 for an image without; `None` unless `takes_labels`.
        """

    def side_loss(self, views: tuple, labels: tf.Tensor | None) -> tf.Tensor | float:
        """Returns what is minimised beside the loss, and not counted as its value."""
        return 0.0

    def checked_batch(self, data: Any) -> tuple[tuple, Any]:
        """Takes a batch, or what a data set says of its batches, apart into views and labels.

        Raises:
            ValueError: if it is not what this model takes.
        """
        return checked_batch(data, self.takes_indices, self.takes_labels, self.least_views)

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

    def train_step(self, data):
        """Takes one step on a batch and returns `{"loss": ...}`."""
        views, labels = self.checked_batch(data)
        after_step: list[tuple] = []
        after_batch: list[tuple] = []
        _POSTPONED.after_step, _POSTPONED.after_batch = after_step, after_batch
        with passes_in_turn(), tf.GradientTape() as tape:
            loss = self.batch_loss(views, labels)
            # Gradients are summed over replicas, so each brings its share of a penalty on weights.
            # `keras.losses.Loss` has done the same for the loss itself.
            replicas = tf.cast(distribute.replica_count(), loss.dtype)
            for penalty in self.losses:
                loss += tf.cast(penalty, loss.dtype) / replicas
            objective = loss + tf.cast(self.side_loss(views, labels), loss.dtype)
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
        return [self.loss_tracker]

    def compile(self, optimizer, jit_compile: bool | str = "auto", **kwargs):
        """Configures training, as `keras.Model.compile` does; there is no `loss` to pass.

        Args:
            optimizer: Keras optimizer or its name.
            jit_compile: "auto" compiles with XLA on accelerators only: on CPUs TensorFlow's oneDNN
                kernels are faster than XLA's.
            **kwargs: other arguments of `keras.Model.compile`.
        """
        if jit_compile == "auto":
            jit_compile = bool(tf.config.list_logical_devices("GPU"))
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)

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
        self._set_finish(finish_of(x))
        if isinstance(x, tf.data.Dataset):
            self.checked_batch(finished_spec(x))
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

    def _set_finish(self, finish: Finish | None):
        if finish is not self._finish:
            self._finish = finish
            self.train_function = None  # it was made for other batches

    def _finished(self, batch: Any) -> Any:
        return batch if self._finish is None else self._finish(batch)

    def make_train_function(self, force=False):
        """Builds the function that `fit` calls: exact under every strategy."""
        if self.train_function is not None and not force:
            return
        with self.distribute_strategy.scope():
            self.optimizer.build(self.trainable_variables)
        self.train_function = distribute.multi_step_function(
            self.distribute_strategy,
            lambda batch: self.train_step(self._finished(batch)),
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
        def views():
            found, _ = views_and_labels(self._finished(batch))
            return tuple(view for view in found if len(view.shape) == 4)

        self._last_views = views  # finished when they are asked for, which is seldom

    @property
    def last_batch(self) -> tuple | None:
        """The views that the latest execution of `fit` ended with (of the first replica), or `None`."""
        return self._last_views()

    @last_batch.setter
    def last_batch(self, views: tuple | None):
        self._last_views = lambda: views

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Keras would take a batch from the data to build a model that is built, and fails to reduce
        # that batch under strategies of several workers.
        pass
