"""Validates backbones, probes and batches before training starts."""

import logging
from typing import Any

import keras
import tensorflow as tf

from keras_ssl.layers import LinearProbe

_LOG = logging.getLogger("keras_ssl")


def validate_backbone(backbone: Any) -> keras.Model:
    """Returns the backbone if a method can use it.

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
            "`backbone` must have `output_shape`, which subclasses of keras.Model with their own "
            "`call` do not have. Wrap it in a functional model: images = keras.Input((height, width, "
            "channels)); backbone = keras.Model(images, network(images)). "
            f"Received: {backbone.name!r} of type {type(backbone).__name__}"
        )
    if not isinstance(shape, tuple) or len(shape) != 2 or shape[-1] is None:
        raise ValueError(
            "`backbone` must return one vector per image, (batch, features). A network that returns "
            "feature maps needs pooling: pass pooling='avg' to keras.applications models. "
            f"Received: backbone.output_shape={shape}"
        )
    return backbone


def check_free_size(backbone: keras.Model, method: str):
    """Raises ValueError unless a backbone takes images of any size.

    Args:
        backbone: from `validate_backbone`.
        method: name of the method, for the message.
    """
    shape = getattr(backbone, "input_shape", None)
    if isinstance(shape, tuple) and len(shape) == 4 and shape[1:3] != (None, None):
        raise ValueError(
            f"`backbone` must take images of any size: {method} trains it on tiles, and it is "
            "evaluated on whole images. Expected: input_shape=(None, None, channels), such as "
            "keras_ssl.backbones.ResNet(18, stem='small', input_shape=(None, None, 3)). "
            f"Received: backbone.input_shape={shape}"
        )


def validate_probe(probe: Any) -> LinearProbe:
    """Returns the probe; raises TypeError if it is not a `LinearProbe`."""
    if not isinstance(probe, LinearProbe):
        raise TypeError(
            "`probe` must be a keras_ssl.layers.LinearProbe. "
            f"Received: probe={probe!r} of type {type(probe).__name__}"
        )
    return probe


def validate_batch(
    data: Any,
    takes_indices: bool,
    takes_labels: bool,
    least_views: int,
    view_count: int | None = None,
    takes_keys: bool = False,
    takes_clips: bool = False,
) -> tuple[tuple, Any]:
    """Splits a batch into its views, followed by indices if any, and its labels or `None`.

    Args:
        data: batch, or the `element_spec` of a data set of batches.
        takes_indices: whether the indices of the images must follow the views.
        takes_labels: whether the batch must have labels; if not, it must have none.
        least_views: minimum number of views.
        view_count: exact number of views; `None` for any number from `least_views` on.
        takes_keys: whether keys of the images must follow the views and the indices.
        takes_clips: whether the views are the frames of clips.

    Raises:
        ValueError: if the batch is not a tuple of views of the same images.
    """
    views, labels = split_views_and_labels(data)
    if (labels is None) == takes_labels:
        raise ValueError(
            "A batch must be a tuple of views, (view_1, view_2), without labels, as from "
            "keras_ssl.data.views. A model with a probe takes ((view_1, view_2), label), as from "
            "keras_ssl.data.views(..., labels=True), and so do models that learn from labels. "
            f"Received: {tf.nest.map_structure(_describe, data)}, for a model that takes "
            f"{'labels' if takes_labels else 'no labels'}"
        )
    checked = _validate_views(
        views, takes_indices, takes_keys, least_views, view_count, takes_clips
    )
    return checked, labels


def split_views_and_labels(data: Any) -> tuple[Any, Any]:
    """Splits a batch into views and labels; labels are `None` if there are none."""
    if isinstance(data, (tuple, list)) and len(data) == 2 and isinstance(data[0], (tuple, list)):
        return data[0], data[1]
    return data, None


def count_images(data: Any) -> int:
    """Returns the number of images in a data set of batches; negative or 0 if it is unknown."""
    if not isinstance(data, tf.data.Dataset):
        return -1
    batch = tf.nest.flatten(data.element_spec)[0].shape[0]
    return int(data.cardinality()) * (batch or 0)


def warn_if_queue_too_long(queue_size: int, data: Any, keys_per_image: int):
    """Logs a warning if a queue holds more keys than one epoch adds, as far as the epoch is known.

    Args:
        queue_size: number of keys in the queue.
        data: data set of batches.
        keys_per_image: number of keys per image that an epoch adds.
    """
    images = count_images(data)
    keys = images * keys_per_image
    if 0 < keys < queue_size:
        _LOG.warning(
            "The queue holds %d keys, but an epoch adds only %d keys of %d images: older keys of an "
            "image are among its negatives. Use a `queue_size` of at most %d.",
            queue_size,
            keys,
            images,
            keys // 2,
        )


def _validate_views(
    data: Any,
    with_indices: bool,
    with_keys: bool,
    least_views: int,
    view_count: int | None,
    clips: bool,
) -> tuple:
    tensors = isinstance(data, (tuple, list)) and all(
        isinstance(view, (tf.Tensor, tf.TensorSpec)) for view in data
    )
    least = view_count or least_views
    if not tensors or len(data) < least + with_indices + with_keys:
        raise ValueError(
            f"A batch must be a tuple of views, {_structure(with_indices, with_keys, least)}, without "
            f"labels, as from keras_ssl.data.views{_arguments(with_indices, with_keys, clips)}. "
            f"Received: {tf.nest.map_structure(_describe, data)}"
        )
    views, *extras = _split_extras(data, with_indices, with_keys)
    wanted = [("indices", with_indices, _are_indices), ("keys", with_keys, _are_keys)]
    for (name, _, fits), extra in zip([each for each in wanted if each[1]], extras, strict=True):
        if not fits(extra):
            raise ValueError(
                f"This method needs the {name} of the images after their views, "
                f"{_structure(with_indices, with_keys, least)}, as from "
                f"keras_ssl.data.views(..., {name}=True). "
                f"Received: {[_describe(value) for value in data]}"
            )
    if not all(len(view.shape) == 4 for view in views) or len({v.shape[0] for v in data}) > 1:
        raise ValueError(
            "The views of a batch must show the same images, (batch, height, width, channels), with "
            f"equal batch sizes. Received: {[_describe(view) for view in data]}"
        )
    if view_count is not None and len(views) != view_count:
        expected = "a single augmentation" if view_count == 1 else f"{view_count} augmentations"
        expected = f"keras_ssl.data.views(source, policy) whose policy is {expected}"
        if clips:
            expected = f"keras_ssl.data.views(..., clips=True) of clips of {view_count} frames"
        raise ValueError(
            f"This method takes exactly {view_count} view{'s' * (view_count > 1)} of each "
            f"{'clip' if clips else 'image'}. Expected: {expected}. Received: {len(views)} views"
        )
    return tuple(data)


def _split_extras(data: Any, with_indices: bool, with_keys: bool) -> tuple:
    """Returns the views, and what follows them."""
    count = len(data) - with_indices - with_keys
    return data[:count], *data[count:]


def _are_indices(value: Any) -> bool:
    return len(value.shape) == 1 and value.dtype.is_integer


def _are_keys(value: Any) -> bool:
    return len(value.shape) == 2 and value.shape[1] == 2 and value.dtype == tf.uint32


def _arguments(with_indices: bool, with_keys: bool, clips: bool) -> str:
    """Returns the arguments of `data.views` that add what a method needs; empty for none."""
    names = ["indices=True"] * with_indices + ["keys=True"] * with_keys
    names += ["clips=True"] * clips
    return f"(..., {', '.join(names)})" if names else ""


def _structure(with_indices: bool, with_keys: bool, views: int) -> str:
    """Returns the structure of a batch, such as "(view_1, view_2, index)"."""
    names = ["view"] if views == 1 else [f"view_{number}" for number in range(1, views + 1)]
    names += ["index"] * with_indices + ["key"] * with_keys
    return f"({', '.join(names)}{',' * (len(names) == 1)})"


def _describe(value: Any) -> str:
    if isinstance(value, (tf.Tensor, tf.TensorSpec)):
        return f"{value.dtype.name}{tuple(value.shape)}"
    return repr(value)
