"""What a method is made of and fed with, checked before work starts."""

import logging
from typing import Any

import keras
import tensorflow as tf

from keras_ssl.layers import LinearProbe

_LOG = logging.getLogger("keras_ssl")


def checked_backbone(backbone: Any) -> keras.Model:
    """Returns a backbone that a method can take.

    Raises:
        TypeError: if it is not a `keras.Model`.
        ValueError: if it is not built, or does not return one vector per image.
    """
    if not isinstance(backbone, keras.Model):
        raise TypeError(
            "`backbone` must be a keras.Model that maps images to features. "
            f"Received: backbone={backbone!r} of type {type(backbone).__name__}"
        )
    if not backbone.built:
        raise ValueError(
            "`backbone` must be built: call it once, or give it an input shape. "
            f"Received: the unbuilt model {backbone.name!r}"
        )
    shape = getattr(backbone, "output_shape", None)
    if shape is None:
        raise ValueError(
            "`backbone` must know the shapes of its input and output, which a subclass of keras.Model "
            "with a `call` of its own does not. Make it part of a functional model: images = "
            "keras.Input((height, width, channels)); backbone = keras.Model(images, network(images)). "
            f"Received: {backbone.name!r} of type {type(backbone).__name__}"
        )
    if not isinstance(shape, tuple) or len(shape) != 2 or shape[-1] is None:
        raise ValueError(
            "`backbone` must return one vector per image, (batch, features). A network that returns "
            "feature maps wants pooling: keras.applications models take pooling='avg'. "
            f"Received: backbone.output_shape={shape}"
        )
    return backbone


def checked_probe(probe: Any) -> LinearProbe:
    """Returns a probe; raises TypeError if it is none."""
    if not isinstance(probe, LinearProbe):
        raise TypeError(
            "`probe` must be a keras_ssl.layers.LinearProbe. "
            f"Received: probe={probe!r} of type {type(probe).__name__}"
        )
    return probe


def checked_batch(
    data: Any, takes_indices: bool, takes_labels: bool, least_views: int
) -> tuple[tuple, Any]:
    """Returns a batch's views, with the images' numbers behind them, and its labels or `None`.

    Args:
        data: batch, or what a data set says of its batches.
        takes_indices: whether the numbers of the images must follow the views.
        takes_labels: whether labels must come with the views; otherwise none may.
        least_views: number of views that there must be.

    Raises:
        ValueError: if it is not a tuple of views of the same images.
    """
    views, labels = views_and_labels(data)
    if (labels is None) == takes_labels:
        raise ValueError(
            "A batch must be a tuple of views, (view_1, view_2), without labels, as "
            "keras_ssl.data.views makes it; a model with a probe takes ((view_1, view_2), label), "
            "as keras_ssl.data.views(..., labels=True) makes it, and so does one that learns from "
            f"labels. Received: {tf.nest.map_structure(_describe, data)}, for a model that takes "
            f"{'labels' if takes_labels else 'none'}"
        )
    return _checked_views(views, takes_indices, least_views), labels


def views_and_labels(data: Any) -> tuple[Any, Any]:
    """Takes a batch apart; the labels are `None` where there are none."""
    if isinstance(data, (tuple, list)) and len(data) == 2 and isinstance(data[0], (tuple, list)):
        return data[0], data[1]
    return data, None


def image_count(data: Any) -> int:
    """Returns how many images a data set of batches has; negative or 0 where it does not say."""
    if not isinstance(data, tf.data.Dataset):
        return -1
    batch = tf.nest.flatten(data.element_spec)[0].shape[0]
    return int(data.cardinality()) * (batch or 0)


def warn_of_long_queue(queue_size: int, data: Any, keys_per_image: int):
    """Warns of a queue that is longer than what an epoch enters, where the data set says its length.

    Args:
        queue_size: keys that the queue holds.
        data: data set of batches.
        keys_per_image: keys of an image that enter the queue in an epoch.
    """
    images = image_count(data)
    keys = images * keys_per_image
    if 0 < keys < queue_size:
        _LOG.warning(
            "The queue holds more keys than an epoch makes (%d, and %d of %d images): older keys of "
            "the same image count as negatives. A `queue_size` of at most half of those, %d, is "
            "better.",
            queue_size,
            keys,
            images,
            keys // 2,
        )


def _checked_views(data: Any, with_indices: bool, least_views: int) -> tuple:
    tensors = isinstance(data, (tuple, list)) and all(
        isinstance(view, (tf.Tensor, tf.TensorSpec)) for view in data
    )
    if not tensors or len(data) < least_views:
        raise ValueError(
            "A batch must be a tuple of views, (view_1, view_2), as keras_ssl.data.views makes it, "
            f"without labels. Received: {tf.nest.map_structure(_describe, data)}"
        )
    views = data[:-1] if with_indices else data
    if with_indices and (len(data[-1].shape) != 1 or not data[-1].dtype.is_integer):
        raise ValueError(
            "This method needs the numbers of the images behind their views, (view_1, view_2, index), "
            "as keras_ssl.data.views(..., indices=True) makes them. "
            f"Received: {[_describe(value) for value in data]}"
        )
    are_images = len(views) >= least_views and all(len(view.shape) == 4 for view in views)
    if not are_images or len({view.shape[0] for view in data}) > 1:
        raise ValueError(
            "The views of a batch must show the same images, (batch, height, width, channels), with "
            f"equal batch sizes. Received: {[_describe(view) for view in data]}"
        )
    return tuple(data)


def _describe(value: Any) -> str:
    if isinstance(value, (tf.Tensor, tf.TensorSpec)):
        return f"{value.dtype.name}{tuple(value.shape)}"
    return repr(value)
