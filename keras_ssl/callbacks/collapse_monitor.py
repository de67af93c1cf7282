"""Detects collapsed features, and losses and weights that are not finite, during training."""

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

_MAX_VARIANCE_SHARE = 0.999  # of the variance along one direction; untrained networks stay below
_MIN_IMAGES_FOR_SHARE = 8  # features of fewer images may lie on a line by chance

_COLLAPSE_ADVICE = (
    "Common causes: a learning rate that is too high or has no warm-up; a target network that "
    "moves too fast (momentum too low), a missing predictor or stopped gradient (BYOL, SimSiam); a "
    "temperature far from the paper's, too few negatives (SimCLR, MoCo); augmentations too weak to "
    "make views differ; too much weight decay. See docs/monitoring.md."
)
_NOT_FINITE_ADVICE = (
    "If the images are valid, try a lower learning rate, a longer warm-up, gradient clipping, or "
    "float32 or bfloat16 instead of float16. Weights that are not finite do not recover: restore a "
    "checkpoint from before this epoch."
)


class CollapseMonitor(keras.callbacks.Callback):
    """Monitors features for collapse, and stops training if the loss or weights are not finite.

    At the end of an epoch, it computes the backbone's features, in inference mode, for the two
    views of the last training batch, `model.last_batch`. It adds their statistics to the epoch's
    logs. Keras' `History` records them, and so do `TensorBoard` and other callbacks after this one
    in the list:

    - "feature_std": spread of the features' directions over the images, from 0 (collapsed) to 1
      (evenly spread).
    - "alignment": mean squared distance between the two views of an image, from 0 (equal) to 4.
    - "uniformity": from 0 (collapsed) to about -4 (evenly spread).
    - "effective_rank": number of directions in use, from 1 to the number of features.
    - "embedding_std": like "feature_std", for the outputs of the model's `projector`, if it has
      one. This value collapses first: a projector can map everything to one point while the
      features still differ.

    The "keras_ssl" logger warns once per collapse: if a standard deviation is below `threshold`
    (complete collapse), or if more than 99.9 % of the variance of features or embeddings lies along
    one direction (the extreme form of dimensional collapse). Features of networks that end in ReLU
    share a large mean, so "feature_std" may be 0.05 without a collapse; the limits allow for that.

    The loss is checked after each batch, and all weights after each epoch. Weights and
    random numbers of the training are the same as without this callback.

    Args:
        every: epochs between measurements, positive; the first is after `every` epochs. Loss and
            weights are checked in every epoch.
        images: maximum number of images to measure, at least 2.
        threshold: standard deviation, in [0, 1), below which features count as collapsed; 0
            disables this check.

    Attributes:
        history: maps each measured epoch (counted from 0) to its statistics.
        collapsed: whether the latest measurement found a collapse.

    Raises:
        ValueError: if an argument is out of range; when training starts, if the model has no
            `last_batch`; after an epoch, if `last_batch` does not hold two views.
        FloatingPointError: if the loss, a weight or a feature is not finite. The message names the
            first layer, in forward order, whose weights or outputs for the last batch are not
            finite.

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
        # One thread for small matrices: several are many times slower while a training is running.
        self._threads = ThreadpoolController()

    def on_train_begin(self, logs=None):
        """Checks that the model has `last_batch`."""
        self._build_functions()
        if not hasattr(self.model, "last_batch"):
            raise ValueError(
                "CollapseMonitor needs a model with an attribute `last_batch`: two views of the last "
                "training batch, (view_1, view_2), each (batch, height, width, channels). It also "
                "needs `backbone`, unless the model itself maps images to features. Methods in "
                "keras_ssl.methods have both. For other models, a fixed batch works too: set "
                "`model.last_batch = (view_1, view_2)` before `fit`. "
                f"Received: {type(self.model).__name__} without `last_batch`"
            )

    def on_epoch_begin(self, epoch, logs=None):
        """Remembers the epoch, for messages."""
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        """Checks the loss: the mean over the epoch so far, which stays NaN once it is NaN."""
        # This is free: Keras has already waited for the step, to pass the loss to callbacks.
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            self._stop(loss)

    def on_epoch_end(self, epoch, logs=None):
        """Checks the loss and weights, and measures features after every `every` epochs."""
        logs = {} if logs is None else logs
        loss = logs.get("loss", 0.0)
        # ReLU on CPUs turns NaN into 0, so the loss may be finite although weights are not.
        if not math.isfinite(loss) or not self._weights_finite():
            self._stop(loss)
        if (epoch + 1) % self.every:
            return
        views = self._views()
        outputs = [x.numpy() for x in self._forward(*(view[: self.images] for view in views))]
        if not all(np.isfinite(values).all() for values in outputs):
            self._stop(loss)
        if outputs[0].shape[1] < 2:
            return  # one image has no variance
        with self._threads.limit(limits=1):
            self.history[epoch] = _statistics(*outputs)
            logs.update(self.history[epoch])
            self._check_collapse(outputs, epoch)

    def _build_functions(self):
        """Builds the graph functions; later epochs and calls of `fit` reuse them."""
        networks = [self.model, *_networks(self.model)]
        if [id(network) for network in networks] == [id(network) for network in self._traced]:
            return
        self._traced = networks
        # Partials, because TensorFlow counts the traces of all functions with the same code
        # together, and would warn.
        self._forward = tf.function(
            functools.partial(_outputs, networks[1:]),
            reduce_retracing=True,
            autograph=False,
        )
        self._weights_finite = tf.function(
            functools.partial(all_finite, self.model.weights), autograph=False
        )

    def _views(self) -> tuple:
        """Returns the two views of the last batch."""
        batch = self.model.last_batch
        views = batch[:2] if isinstance(batch, (tuple, list)) else ()
        if len(views) < 2 or any(np.ndim(view) != 4 for view in views):
            received = [tuple(np.shape(view)) for view in views] if views else repr(batch)
            raise ValueError(
                "The `last_batch` of the model must hold two views of the last training batch, each "
                "(batch, height, width, channels). "
                f"Received: last_batch={received}"
            )
        return tuple(tf.convert_to_tensor(view) for view in views)

    def _check_collapse(self, outputs: list[np.ndarray], epoch: int):
        was_collapsed = self.collapsed
        # A collapse ends well above the threshold, so that values close to it do not warn
        # repeatedly.
        threshold = self.threshold * (2 if was_collapsed else 1)
        for name, values in zip(("feature", "embedding"), outputs, strict=False):
            std = self.history[epoch][f"{name}_std"]
            if found := _describe_collapse(np.concatenate(values), std, threshold):
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
            views = ()  # weights can be checked without them
        raise FloatingPointError(
            "Loss, weights and features must be finite. "
            f"Received: loss={loss} in epoch {self._epoch + 1}; "
            f"{first_not_finite(self.model, views)}. {_NOT_FINITE_ADVICE}"
        )


def _networks(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns the backbone, followed by the projector of a method that has one."""
    projector = getattr(model, "projector", None) if hasattr(model, "ssl_loss") else None
    backbone = getattr(model, "backbone", model)
    return [backbone, projector] if isinstance(projector, keras.layers.Layer) else [backbone]


def _outputs(networks: list[keras.layers.Layer], *views: tf.Tensor) -> list[tf.Tensor]:
    """Applies networks in sequence; returns the outputs of each, (views, n, dim) float32."""
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


def _describe_collapse(values: np.ndarray, std: float, threshold: float) -> str | None:
    """Returns how features, (n, dim), have collapsed; `None` if they have not."""
    if std < threshold:
        return "are nearly equal"
    share = statistics.main_direction_share(values)
    if len(values) >= _MIN_IMAGES_FOR_SHARE and share > _MAX_VARIANCE_SHARE:
        return f"lie on a line, with {share:.2%} of their variance along one direction"
    return None
