"""Detects collapsed features, and losses and weights that are not finite, during training."""

import functools
import logging
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from threadpoolctl import ThreadpoolController

from keras_ssl.callbacks import collapse
from keras_ssl.callbacks.collapse import Spread
from keras_ssl.callbacks.network_outputs import (
    compute_outputs,
    find_networks,
    moving_batch_norms,
    whole_groups,
)
from keras_ssl.callbacks.not_finite import all_finite, first_not_finite
from keras_ssl.evaluate import feature_statistics as statistics

__all__ = ["CollapseMonitor"]

_LOG = logging.getLogger("keras_ssl")

_NOT_FINITE_ADVICE = (
    "If the images are valid, try a lower learning rate, a longer warm-up, gradient clipping, or "
    "float32 or bfloat16 instead of float16. Weights that are not finite do not recover: restore a "
    "checkpoint from before this epoch."
)


class CollapseMonitor(keras.callbacks.Callback):
    """Monitors features for collapse, and stops training if the loss or weights are not finite.

    At the end of an epoch, it computes the backbone's features, in inference mode, for two views of
    the last training batch, `model.last_batch`, or for the view of a pretext task. It adds their
    statistics to the epoch's logs. Keras' `History` records them, and so do `TensorBoard` and other
    callbacks after this one in the list:

    - "feature_std": spread of the features' directions over the images, from 0 (collapsed) to 1
      (evenly spread).
    - "alignment": mean squared distance between the two views of an image, from 0 (equal) to 4;
      left out for a pretext task.
    - "uniformity": from 0 (collapsed) to about -4 (evenly spread).
    - "effective_rank": number of directions in use, from 1 to the number of features.
    - "embedding_std": like "feature_std", for the outputs of the model's `projector`, if it has
      one. This value collapses first: a projector can map everything to one point while the
      features still differ.

    The "keras_ssl" logger warns once per collapse: if a standard deviation is below `threshold`
    (complete collapse), or if more than 99.9 % of the variance of features or embeddings lies along
    one direction (the extreme form of dimensional collapse). Features of networks that end in ReLU
    share a large mean, so "feature_std" may be 0.05 without a collapse; the limits allow for that.
    They are compared with the spread after the first step of `fit`: a network whose features are nearly
    equal before it has learned anything, such as ConvNeXt, has collapsed only at a quarter of that
    spread. If nothing has changed after a tenth of the epochs, a warning says so. If features have
    collapsed in inference mode but not in training mode, the warning names the moving statistics of
    batch normalization.

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
        outdated: whether the latest measurement found one in inference mode only.

    Raises:
        ValueError: if an argument is out of range; when training starts, if the model has no
            `last_batch`; after an epoch, if `last_batch` does not hold two views (one for a method
            whose `view_count` is 1).
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
        self.outdated = False
        self._first: list[Spread] | None = None
        self._has_begun = False
        self._has_warned_of_start = False
        self._epoch = 0
        self._traced: list[Any] = []
        self._forward: Callable[..., list[tf.Tensor]]
        self._weights_finite: Callable[[], tf.Tensor]
        # One thread for small matrices: several are many times slower while a training is running.
        self._threads = ThreadpoolController()

    def on_train_begin(self, logs=None):
        """Checks that the model has `last_batch`."""
        self._build_functions()
        self._first, self._has_begun = None, False
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
        if not self._has_begun:
            self._has_begun = True
            self._first = self._measure_first()

    def on_epoch_end(self, epoch, logs=None):
        """Checks the loss and weights, and measures features after every `every` epochs."""
        logs = {} if logs is None else logs
        loss = logs.get("loss", 0.0)
        # ReLU on CPUs turns NaN into 0, so the loss may be finite although weights are not.
        if not math.isfinite(loss) or not self._weights_finite():
            self._stop(loss)
        if (epoch + 1) % self.every:
            return
        outputs = self._outputs()
        if not all(np.isfinite(values).all() for values in outputs):
            self._stop(loss)
        if outputs[0].shape[1] < 2:
            return  # one image has no variance
        with self._threads.limit(limits=1):
            self.history[epoch] = _statistics(*outputs)
            logs.update(self.history[epoch])
            self._check_collapse(collapse.measure_spreads(outputs), epoch)

    def _build_functions(self):
        """Builds the graph functions; later epochs and calls of `fit` reuse them."""
        networks = [self.model, *find_networks(self.model)]
        if [id(network) for network in networks] == [id(network) for network in self._traced]:
            return
        self._traced = networks
        # Partials, because TensorFlow counts the traces of all functions with the same code
        # together, and would warn.
        self._forward = tf.function(
            functools.partial(compute_outputs, networks[1:]),
            reduce_retracing=True,
            autograph=False,
        )
        self._weights_finite = tf.function(
            functools.partial(all_finite, self.model.weights), autograph=False
        )

    def _views(self) -> tuple:
        """Returns two views of the last batch, or the view of a pretext task."""
        batch = self.model.last_batch
        count = min(2, getattr(self.model, "view_count", None) or 2)
        views = batch[:count] if isinstance(batch, (tuple, list)) else ()
        if len(views) < count or any(np.ndim(view) != 4 for view in views):
            received = [tuple(np.shape(view)) for view in views] if views else repr(batch)
            raise ValueError(
                f"The `last_batch` of the model must hold {'two views' if count == 2 else 'the view'} "
                "of the last training batch, each (batch, height, width, channels). "
                f"Received: last_batch={received}"
            )
        return tuple(tf.convert_to_tensor(view) for view in views)

    def _outputs(self) -> list[np.ndarray]:
        """Returns features and embeddings of the last batch in inference mode, (views, n, dim)."""
        return [x.numpy() for x in self._forward(*(view[: self.images] for view in self._views()))]

    def _measure_first(self) -> list[Spread] | None:
        try:
            outputs = self._outputs()
        except ValueError:
            return None  # a wrong `last_batch`, which is reported after the epoch
        if outputs[0].shape[1] < 2 or not all(np.isfinite(values).all() for values in outputs):
            return None
        with self._threads.limit(limits=1):
            return collapse.measure_spreads(outputs)

    def _check_collapse(self, spreads: list[Spread], epoch: int):
        was_collapsed, was_outdated = self.collapsed, self.outdated
        threshold, first = self.threshold, self._first
        found = collapse.find_collapse(spreads, first, threshold, was_collapsed or was_outdated)
        outdated = self._describe_outdated(found, epoch) if found else None
        self.outdated = outdated is not None
        self.collapsed = found is not None and not self.outdated
        if outdated and not was_outdated:
            _LOG.warning(outdated)
        if found and self.collapsed and not was_collapsed:
            _LOG.warning(collapse.describe_collapse(*found, epoch + 1))
        if (was_collapsed or was_outdated) and not found:
            _LOG.info("Epoch %d: the features have recovered from their collapse.", epoch + 1)
        if not found:
            self._check_start(spreads, epoch)

    def _check_start(self, spreads: list[Spread], epoch: int):
        """Warns once if the features are still as equal as at the beginning."""
        is_early = epoch + 1 < (self.params or {}).get("epochs", 1) / 10
        if self._first is None or is_early or self._has_warned_of_start:
            return
        for spread, first in zip(spreads, self._first, strict=True):
            if spread.std < self.threshold:
                self._has_warned_of_start = True
                _LOG.warning(collapse.describe_start(spread, first, epoch + 1))
                return

    def _describe_outdated(self, found: tuple[Spread, str], epoch: int) -> str | None:
        """Returns the warning if features have collapsed in inference mode only."""
        networks = self._traced[1:]
        layers = moving_batch_norms(networks)
        count = whole_groups(layers, min(self.images, len(self._views()[0])))
        if not layers or count < 2:
            return None
        views = [view[:count] for view in self._views()]
        outputs = [x.numpy() for x in compute_outputs(networks, *views, training=True)]
        training = collapse.measure_spreads(outputs)
        if collapse.find_collapse(training, self._first, self.threshold) is not None:
            return None
        spread, how = found
        (same,) = [each for each in training if each.name == spread.name]
        momentum = max(layer.momentum for layer in layers)
        return collapse.describe_statistics(spread, how, same, epoch + 1, momentum)

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


def _statistics(features: np.ndarray, embeddings: np.ndarray | None = None) -> dict[str, float]:
    """Returns the statistics of features, (views, n, dim), and of embeddings, (views, n, units)."""
    alignment = {"alignment": statistics.alignment(*features)} if len(features) == 2 else {}
    values = {
        "feature_std": statistics.feature_std(np.concatenate(features)),
        **alignment,
        "uniformity": float(np.mean([statistics.uniformity(view) for view in features])),
        "effective_rank": statistics.effective_rank(np.concatenate(features)),
    }
    if embeddings is not None:
        values["embedding_std"] = statistics.feature_std(np.concatenate(embeddings))
    return values
