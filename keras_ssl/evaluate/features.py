"""Frozen features: one pass of a backbone, in inference mode, over the images of a source."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.progress import track

from keras_ssl.evaluate.fingerprint import unchanged
from keras_ssl.evaluate.inputs import Images, check_labels, image_dataset, prepare, source_name

__all__ = ["Encoder", "Features", "extract", "labelled_pair", "pixels"]


@dataclass(frozen=True, eq=False)
class Features:
    """The features of a set of images; several protocols can share them.

    Attributes:
        values: (n, dim) float32, finite.
        labels: (n,) int64, or `None` where the images have none (-1 means unlabelled).
        name: how messages call the set.
        preprocessing: what was done to the images.

    Raises:
        ValueError: if `values` is not a non-empty matrix of finite numbers, or `labels` does not
            hold one label for each of its rows.

    Example:
        >>> len(Features(np.eye(3), np.array([0, 1, 2])))
        3
    """

    values: np.ndarray
    labels: np.ndarray | None = None
    name: str = "features"
    preprocessing: str = "unknown"

    def __post_init__(self):
        values = np.asarray(self.values, np.float32)
        if values.ndim != 2 or not values.size:
            raise ValueError(
                f"The features of {self.name!r} must be a non-empty matrix (images, dim). "
                f"Received: shape {values.shape}."
            )
        finite = np.isfinite(values).all(axis=1)
        if not finite.all():
            raise ValueError(
                f"The features of {self.name!r} must be finite. Received: NaN or infinity for "
                f"{np.sum(~finite)} of {len(values)} images, first for image "
                f"{np.argmin(finite)}."
            )
        labels = None if self.labels is None else np.asarray(self.labels, np.int64)
        if labels is not None and labels.shape != (len(values),):
            raise ValueError(
                f"{self.name!r} must have one label per image, shape ({len(values)},). "
                f"Received: labels of shape {labels.shape}."
            )
        if labels is not None and (labels < 0).all():
            labels = None
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def targets(self) -> np.ndarray:
        """The labels, of features that must have them; raises ValueError where there are none."""
        if self.labels is None:
            raise ValueError(f"{self.name!r} must have labels. Received: labels=None.")
        return self.labels

    def subset(self, indices: np.ndarray) -> "Features":
        """Returns the features (and labels) of the images at `indices`."""
        labels = None if self.labels is None else self.labels[indices]
        return Features(self.values[indices], labels, self.name, self.preprocessing)


class Encoder:
    """Computes features with one traced function, for as many sources as it is called with.

    Args:
        backbone: built `keras.Model`, (batch, height, width, channels) float32 images in [0, 1] to
            (batch, dim).
        augmentation: function or layer from one image, uint8 or float in [0, 1], to the float32
            image that the backbone takes; `None` takes `keras_ssl.augment.evaluation` at the
            backbone's input size, or the images as they are where the backbone takes any size.

    Raises:
        ValueError: if `backbone` is a self-supervised method rather than a network, or does not
            take one image tensor.

    Example:
        >>> encoder = Encoder(pixels((8, 8, 1)))
        >>> encoder((np.zeros((3, 8, 8, 1), np.uint8), None)).values.shape
        (3, 64)
    """

    def __init__(self, backbone: keras.Model, augmentation: Callable | None = None):
        if hasattr(backbone, "ssl_loss"):
            raise ValueError(
                "`backbone` must be the network that maps images to features. Received: the "
                f"method {type(backbone).__name__}; pass its `.backbone`."
            )
        self.backbone = backbone
        self.augmentation = augmentation
        self._input_shape = _input_shape(backbone)

        # Not `model.predict`: it fails under some distribution strategies. A partial, because
        # TensorFlow counts the traces of all functions of one code together, and warns.
        self._forward = tf.function(
            functools.partial(backbone, training=False), reduce_retracing=True, autograph=False
        )

    def __call__(
        self, source: Images, batch_size: int = 256, progress: bool = False, name: str | None = None
    ) -> Features:
        """Returns the features of the images of `source`, in its order; see `extract`."""
        if isinstance(source, Features):
            return source
        name = name or source_name(source)
        dataset = image_dataset(source, name)
        batches, preprocessing = prepare(
            dataset, self._input_shape, batch_size, self.augmentation, name
        )
        total = int(batches.cardinality())
        shown = track(
            batches,
            f"Features of {name}",
            total=total if total >= 0 else None,
            disable=not progress,
        )
        values, labels = [], []
        with _unequal_images_explained(name):
            for images, targets in shown:
                values.append(self._features(images, name))
                labels.append(targets.numpy().reshape(-1))
        if not values:
            raise ValueError(f"{name!r} must hold at least one image. Received: none.")
        return Features(np.concatenate(values), np.concatenate(labels), name, preprocessing)

    def _features(self, images: tf.Tensor, name: str) -> np.ndarray:
        wanted = self._input_shape[1:]
        if any(w not in (None, got) for w, got in zip(wanted, images.shape[1:], strict=True)):
            raise ValueError(
                f"The backbone takes images of shape {wanted}. Received: images of shape "
                f"{tuple(images.shape[1:])} from {name!r}, after preprocessing."
            )
        features = self._forward(images)
        if not tf.is_tensor(features) or features.shape.rank != 2:
            shape = tuple(features.shape) if tf.is_tensor(features) else type(features).__name__
            raise ValueError(
                "`backbone` must return one vector per image, (batch, dim). Received: an output "
                f"of {shape}. Add pooling: `pooling='avg'` in keras.applications, or a "
                "`keras.layers.GlobalAveragePooling2D` on top."
            )
        return tf.cast(features, tf.float32).numpy()  # (batch, dim)


def extract(
    backbone: keras.Model,
    source: Images,
    batch_size: int = 256,
    augmentation: Callable | None = None,
    progress: bool | None = None,
) -> Features:
    """Returns the features that a backbone gives to the images of a source, in their order.

    The backbone runs in inference mode, on one device, and is checked to be the same to the bit
    afterwards. The function works inside and outside the scope of a distribution strategy.

    Args:
        backbone: built `keras.Model`, (batch, height, width, channels) float32 images in [0, 1] to
            (batch, dim).
        source: a `keras_ssl.data` source; a finite `tf.data.Dataset` of (image, label) or of
            images; a pair of NumPy arrays `(images, labels or None)`. Images are uint8 or float in
            [0, 1]. `Features` are returned as they are.
        batch_size: images per forward pass; it does not change the result.
        augmentation: function or layer from one image to what the backbone takes; `None` takes
            `keras_ssl.augment.evaluation` at the backbone's input size. A backbone that takes any
            size gets the images as they are, which must then be of one size.
        progress: whether to show a progress bar.

    Returns:
        `Features` with `values` (n, dim) float32 and `labels` (n,) int64 or `None`.

    Raises:
        ValueError: if the backbone does not return one vector per image, the images do not fit it,
            or a feature is not finite.
        TypeError: if `source` is none of the above.
        RuntimeError: if a variable of the backbone changed.

    Example:
        >>> images = np.zeros((3, 8, 8, 1), np.uint8)
        >>> extract(pixels((8, 8, 1)), (images, np.array([0, 1, 2]))).values.shape
        (3, 64)
    """
    if isinstance(source, Features):
        return source
    encoder = Encoder(backbone, augmentation)
    with unchanged(backbone):
        return encoder(source, batch_size, bool(progress))


def labelled_pair(
    backbone: keras.Model | None,
    train: Images,
    test: Images,
    batch_size: int,
    augmentation: Callable | None,
    progress: bool,
) -> tuple[Features, Features]:
    """Returns the features of both sets of an evaluation, checked to have labels and one width."""
    sets: dict[str, Any] = {"train": train, "test": test}
    for name, source in sets.items():
        check_labels(source, name)  # before the work: a pass over a large set takes its time
    if not all(isinstance(source, Features) for source in sets.values()):
        if backbone is None:
            raise ValueError(
                "`backbone` can be None only where `train` and `test` are Features. Received: "
                + ", ".join(f"{name}={type(source).__name__}" for name, source in sets.items())
            )
        encoder = Encoder(backbone, augmentation)
        with unchanged(backbone):
            for name, source in sets.items():
                sets[name] = encoder(source, batch_size, progress, name)
    for name, features in sets.items():
        check_labels(features, name)
    widths = [features.values.shape[1] for features in sets.values()]
    if widths[0] != widths[1]:
        raise ValueError(
            "`train` and `test` must have features of one width. Received: "
            f"train={widths[0]}, test={widths[1]}."
        )
    return sets["train"], sets["test"]


def pixels(input_shape: tuple[int, int, int]) -> keras.Model:
    """Returns a "backbone" without parameters: its features are the pixels themselves.

    The row that every encoder has to beat, through the same code as the encoders.

    Args:
        input_shape: (height, width, channels).

    Example:
        >>> pixels((32, 32, 3)).output_shape
        (None, 3072)
    """
    images = keras.Input(input_shape, name="images")
    return keras.Model(images, keras.layers.Flatten(name="flatten")(images), name="pixels")


def _input_shape(backbone: keras.Model) -> tuple[int | None, ...]:
    try:
        shape = backbone.input_shape
    except (AttributeError, ValueError):
        return (None,) * 4  # a subclassed model knows no input shape
    if not isinstance(shape, tuple) or len(shape) != 4:
        raise ValueError(
            "`backbone` must take one tensor of images, (batch, height, width, channels). "
            f"Received: a model with input shape {shape}."
        )
    return shape


@contextlib.contextmanager
def _unequal_images_explained(name: str) -> Iterator[None]:
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        if not any(
            text in str(error) for text in ("Cannot batch", "Cannot add tensor to the batch")
        ):
            raise
        raise ValueError(
            f"The images of {name!r} must have one size here, since the backbone takes any size. "
            "Received: images of different sizes. Pass an `augmentation` that brings them to one "
            "size, such as keras_ssl.augment.evaluation(224)."
        ) from error
