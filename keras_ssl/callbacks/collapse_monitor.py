"""What goes wrong in silence: features that collapse, and numbers that are none."""

import functools
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from threadpoolctl import ThreadpoolController

from keras_ssl.callbacks.not_finite import all_finite, first_not_finite
from keras_ssl.evaluate import feature_statistics as statistics

__all__ = ["CollapseMonitor"]

_LOG = logging.getLogger("keras_ssl")

_SHARE_OF_A_LINE = 0.999  # of the variance along one direction; untrained networks stay below
_FEWEST_ON_A_LINE = 8  # images: fewer may lie on a line by chance

_COLLAPSE_ADVICE = (
    "Usual causes: a learning rate that is too high, or has no warm-up; a target network that follows "
    "too fast (momentum too low), a missing predictor or stopped gradient (BYOL, SimSiam); a "
    "temperature far from the paper's, too few negatives (SimCLR, MoCo); augmentations so weak that "
    "views hardly differ; too much weight decay. docs/monitoring.md says how to read the numbers."
)
_NOT_FINITE_ADVICE = (
    "A lower learning rate, a longer warm-up, clipped gradients, or float32 or bfloat16 instead of "
    "float16 help, if the images are sound; weights that are not finite never mend: go back to a "
    "checkpoint from before this epoch."
)


class CollapseMonitor(keras.callbacks.Callback):
    """Watches the features for collapse, and stops at a loss or weights that are not finite.

    At the end of an epoch it takes the two views of the batch that was trained on last,
    `model.last_batch`, and computes the backbone's features in inference mode. Their statistics go into
    the epoch's logs, so that Keras' `History`, and `TensorBoard` and others that come after this one in
    the list of callbacks, record them:

    - "feature_std": how far directions differ between images, 0 (collapsed) to 1 (evenly spread).
    - "alignment": mean squared distance of the two views of an image, 0 (equal) to 4.
    - "uniformity": 0 (collapsed) to about -4 (evenly spread).
    - "effective_rank": number of directions in use, 1 to the number of features.
    - "embedding_std": as "feature_std", of the projector's outputs, where the model has a projector.
      This one collapses first: a projector can map everything to one point while the features before
      it still differ.

    It warns through the logger `keras_ssl`, once until it is over, if a standard deviation is below
    `threshold` (complete collapse), or if features or embeddings lie on a line: more than 99.9 % of
    their variance along one direction (dimensional collapse at its worst). The features of networks
    that end in ReLU share a large mean, so that "feature_std" may be 0.05 without any collapse; the
    limits leave room for that.

    The loss is looked at after each batch, the loss and all weights after each epoch. Training is the
    same with and without this callback: same weights, same random numbers.

    Args:
        every: epochs from one measurement to the next, positive; the first after `every` epochs.
            Loss and weights are checked in each epoch.
        images: number of images of the batch to measure at most, at least 2.
        threshold: standard deviation, in [0, 1), below which features count as collapsed; 0 for never.

    Attributes:
        history: the statistics of each epoch (from 0) that was measured.
        collapsed: whether the latest measurement found a collapse.

    Raises:
        ValueError: if a number is out of its range; when training begins, if the model has no
            `last_batch`; after an epoch, if that does not hold two views.
        FloatingPointError: if the loss, a weight or a feature is not finite. It names the first layer,
            in the order in which images pass, whose weights or outputs for the last batch are not.

    Example:
        ```python
        tensorboard = keras.callbacks.TensorBoard("logs")
        model.fit(views, epochs=100, callbacks=[CollapseMonitor(), tensorboard])
        ```

    Source: Chen and He 2020 (SimSiam), section 4.1; Wang and Isola 2020; Roy and Vetterli 2007;
    Garrido et al. 2023 (RankMe). See `keras_ssl/evaluate/feature_statistics.py`.
    """

    def __init__(self, every: int = 1, images: int = 512, threshold: float = 0.02):
        super().__init__()
        for name, value, least in (("every", every, 1), ("images", images, 2)):
            if value < least:
                raise ValueError(f"`{name}` must be at least {least}. Received: {name}={value}")
        if not 0 <= threshold < 1:
            raise ValueError(f"`threshold` must lie in [0, 1). Received: threshold={threshold}")
        self.every = every
        self.images = images
        self.threshold = threshold
        self.history: dict[int, dict[str, float]] = {}
        self.collapsed = False
        self._epoch = 0
        self._traced: list[Any] = []
        self._forward: Callable[..., list[tf.Tensor]]
        self._weights_finite: Callable[[], tf.Tensor]
        # One thread for small matrices: several take many times as long beside a training.
        self._threads = ThreadpoolController()

    def on_train_begin(self, logs=None):
        """Checks that the model shows its batches."""
        self._trace()
        if not hasattr(self.model, "last_batch"):
            raise ValueError(
                "CollapseMonitor needs a model with an attribute `last_batch`: two views of the batch "
                "that was trained on last, (view_1, view_2), each (batch, height, width, channels); "
                "and `backbone`, unless the model itself maps images to features. Methods of "
                "keras_ssl.methods have both. For another model a fixed batch does as well: "
                "`model.last_batch = (view_1, view_2)` before `fit`. "
                f"Received: {type(self.model).__name__} without `last_batch`"
            )

    def on_epoch_begin(self, epoch, logs=None):
        """Remembers the epoch, for messages."""
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        """Looks at the loss, a mean over the epoch so far, which no later batch makes finite again."""
        # It costs nothing: Keras has waited for the step, to make a number of the loss for callbacks.
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            self._stop(loss)

    def on_epoch_end(self, epoch, logs=None):
        """Checks loss and weights, and measures after every `every`th epoch."""
        logs = {} if logs is None else logs
        loss = logs.get("loss", 0.0)
        # ReLU on CPUs turns NaN into 0: the loss of broken weights may be finite.
        if not math.isfinite(loss) or not self._weights_finite():
            self._stop(loss)
        if (epoch + 1) % self.every:
            return
        views = self._views()
        outputs = [x.numpy() for x in self._forward(*(view[: self.images] for view in views))]
        if not all(np.isfinite(values).all() for values in outputs):
            self._stop(loss)
        if outputs[0].shape[1] < 2:
            return  # one image has no spread
        with self._threads.limit(limits=1):
            self.history[epoch] = _statistics(*outputs)
            logs.update(self.history[epoch])
            self._judge(outputs, epoch)

    def _trace(self):
        """Makes the functions that are kept from epoch to epoch, and from one `fit` to the next."""
        networks = [self.model, *_networks(self.model)]
        if [id(network) for network in networks] == [id(network) for network in self._traced]:
            return
        self._traced = networks
        # Partials, because TensorFlow counts the traces of all functions of one code together, and
        # warns.
        self._forward = tf.function(
            functools.partial(_outputs, networks[1:]),
            reduce_retracing=True,
            autograph=False,
        )
        self._weights_finite = tf.function(
            functools.partial(all_finite, self.model.weights), autograph=False
        )

    def _views(self) -> tuple:
        """Returns two views of the images of the last batch."""
        batch = self.model.last_batch
        views = batch[:2] if isinstance(batch, (tuple, list)) else ()
        if len(views) < 2 or any(np.ndim(view) != 4 for view in views):
            received = [tuple(np.shape(view)) for view in views] if views else repr(batch)
            raise ValueError(
                "The `last_batch` of the model must hold two views of the batch that was trained on "
                "last, each (batch, height, width, channels), when an epoch ends. "
                f"Received: last_batch={received}"
            )
        return tuple(tf.convert_to_tensor(view) for view in views)

    def _judge(self, outputs: list[np.ndarray], epoch: int):
        was_collapsed = self.collapsed
        # It is over when well above, so that values near the threshold do not warn again and again.
        threshold = self.threshold * (2 if was_collapsed else 1)
        for name, values in zip(("feature", "embedding"), outputs, strict=False):
            std = self.history[epoch][f"{name}_std"]
            if found := _collapse(np.concatenate(values), std, threshold):
                break
        self.collapsed = found is not None
        if self.collapsed and not was_collapsed:
            _LOG.warning(
                "Collapse in epoch %d: the %ss of different images %s (%s_std=%.3g). %s",
                epoch + 1,
                name,
                found,
                name,
                std,
                _COLLAPSE_ADVICE,
            )
        if was_collapsed and not self.collapsed:
            _LOG.info("Epoch %d: the features have recovered from their collapse.", epoch + 1)

    def _stop(self, loss: float):
        try:
            views = self._views()
        except ValueError:
            views = ()  # weights can be looked at without them
        raise FloatingPointError(
            "Loss, weights and features must be finite. "
            f"Received: loss={loss} in epoch {self._epoch + 1}; "
            f"{first_not_finite(self.model, views)}. {_NOT_FINITE_ADVICE}"
        )


def _networks(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns the backbone, and behind it the projector of a method that has one."""
    projector = getattr(model, "projector", None) if hasattr(model, "ssl_loss") else None
    backbone = getattr(model, "backbone", model)
    return [backbone, projector] if isinstance(projector, keras.layers.Layer) else [backbone]


def _outputs(networks: list[keras.layers.Layer], *views: tf.Tensor) -> list[tf.Tensor]:
    """Returns the outputs of networks, one behind the other: (views, n, dim) float32 of each."""
    values: Sequence[Any] = views
    outputs = []
    for network in networks:
        values = [network(value, training=False) for value in values]
        if any(not tf.is_tensor(value) or value.shape.rank != 2 for value in values):
            raise ValueError(
                f"CollapseMonitor needs one vector per image, (batch, dim). Received: {values[0]!r} "
                f"from {network.name!r}"
            )
        outputs.append(tf.stack([tf.cast(value, tf.float32) for value in values]))
    return outputs


def _statistics(features: np.ndarray, embeddings: np.ndarray | None = None) -> dict[str, float]:
    """Returns the statistics of features, (2, n, dim), and of embeddings, (2, n, units)."""
    values = {
        "feature_std": statistics.feature_std(np.concatenate(features)),
        "alignment": statistics.alignment(*features),
        "uniformity": float(np.mean([statistics.uniformity(view) for view in features])),
        "effective_rank": statistics.effective_rank(np.concatenate(features)),
    }
    if embeddings is not None:
        values["embedding_std"] = statistics.feature_std(np.concatenate(embeddings))
    return values


def _collapse(values: np.ndarray, std: float, threshold: float) -> str | None:
    """Says how features, (n, dim) with this standard deviation, have collapsed; `None` if not."""
    if std < threshold:
        return "are nearly equal"
    share = statistics.main_direction_share(values)
    if len(values) >= _FEWEST_ON_A_LINE and share > _SHARE_OF_A_LINE:
        return f"lie on a line, with {share:.2%} of their variance along one direction"
    return None
