"""Frozen features: runs a backbone in inference mode over all images of a source."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ssl.data.classes import match_classes
from keras_ssl.data.progress import with_bar
from keras_ssl.evaluate.fingerprint import unchanged
from keras_ssl.evaluate.inputs import Images, check_labels, image_dataset, prepare, source_name

__all__ = ["Encoder", "Features", "extract", "labelled_pair", "pixels"]


@dataclass(frozen=True, eq=False)
class Features:
    """The features of a set of images, which several protocols can share.

    Attributes:
        values: finite float32 features, (n, dim).
        labels: int64 labels, (n,), with -1 for unlabeled images; `None` if no image has a label.
        name: name of the set in messages.
        preprocessing: description of the image preprocessing.
        class_names: names of labels 0, 1, ...; `None` if they have no names. Two sets with names are
            matched by name.

    Raises:
        ValueError: if `values` is not a non-empty matrix of finite numbers, `labels` does not have one
            label per row, or a label has no name.

    Example:
        >>> len(Features(np.eye(3), np.array([0, 1, 2])))
        3
    """

    values: np.ndarray
    labels: np.ndarray | None = None
    name: str = "features"
    preprocessing: str = "unknown"
    class_names: Sequence[str] | None = None

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
        if labels is not None and self.class_names and labels.max() >= len(self.class_names):
            raise ValueError(
                f"`class_names` of {self.name!r} must name every label, 0 to {labels.max()}. "
                f"Received: {len(self.class_names)} names."
            )
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def targets(self) -> np.ndarray:
        """The labels. Raises ValueError if there are none."""
        if self.labels is None:
            raise ValueError(f"{self.name!r} must have labels. Received: labels=None.")
        return self.labels

    def subset(self, indices: np.ndarray) -> "Features":
        """Returns the features and labels of the images at `indices`."""
        labels = None if self.labels is None else self.labels[indices]
        return replace(self, values=self.values[indices], labels=labels)


class Encoder:
    """Computes features of any number of sources, tracing the backbone only once.

    Args:
        backbone: built `keras.Model` from float32 images in [0, 1], (batch, height, width,
            channels), to features (batch, dim).
        augmentation: function or layer from one image, uint8 or float in [0, 1], to the float32
            image for the backbone. `None` uses `keras_ssl.augment.evaluation` at the backbone's
            input size, or no change of size if the backbone takes any size.

    Raises:
        ValueError: if `backbone` is a self-supervised method instead of a network, or does not
            take exactly one image tensor.

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
        self.preprocessing = "unknown"  # that of the last images
        self._input_shape = _input_shape(backbone)

        # `model.predict` fails under some distribution strategies. The partial makes each function
        # distinct: TensorFlow counts retraces per Python function and would warn.
        self._forward = tf.function(
            functools.partial(backbone, training=False), reduce_retracing=True, autograph=False
        )

    def __call__(
        self, source: Images, batch_size: int = 256, progress: bool = False, name: str | None = None
    ) -> Features:
        """Returns the features of the images of `source`, in order; see `extract`."""
        if isinstance(source, Features):
            return source
        name = name or source_name(source)
        values, labels = [], []
        for features, targets in self.batches(source, batch_size, progress, name):
            values.append(features)
            labels.append(targets)
        return Features(
            np.concatenate(values),
            np.concatenate(labels),
            name,
            self.preprocessing,
            getattr(source, "class_names", None),
        )

    def batches(
        self, source: Images, batch_size: int, progress: bool, name: str
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields the features (n, dim) and labels (n,) of one batch of images after the other."""
        dataset = image_dataset(source, name)
        batches, self.preprocessing = prepare(
            dataset, self._input_shape, batch_size, self.augmentation, name
        )
        total = int(batches.cardinality())
        tracked = with_bar(
            batches, f"Features of {name}", progress, total=total if total >= 0 else None
        )
        empty = True
        with _explain_unequal_sizes(name):
            for images, targets in tracked:
                empty = False
                yield self._features(images, name), targets.numpy().reshape(-1)
        if empty:
            raise ValueError(f"{name!r} must contain at least one image. Received: none.")

    def _features(self, images: tf.Tensor, name: str) -> np.ndarray:
        expected = self._input_shape[1:]
        if any(e not in (None, got) for e, got in zip(expected, images.shape[1:], strict=True)):
            raise ValueError(
                f"The backbone takes images of shape {expected}. Received: images of shape "
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
    """Computes a backbone's features for the images of a source, in order.

    The backbone runs in inference mode on one device. Afterwards, its variables are checked to be
    bit-identical. The function works inside and outside a distribution strategy's scope.

    Args:
        backbone: built `keras.Model` from float32 images in [0, 1], (batch, height, width,
            channels), to features (batch, dim).
        source: a `keras_ssl.data` source; a finite `tf.data.Dataset` of (image, label) or of
            images; or a pair of NumPy arrays `(images, labels or None)`. Images are uint8 or float
            in [0, 1]. `Features` are returned unchanged.
        batch_size: images per forward pass. Does not affect the result.
        augmentation: function or layer from one image to the backbone's input. `None` uses
            `keras_ssl.augment.evaluation` at the backbone's input size. If the backbone takes any
            size, images are not resized and must all have the same size.
        progress: whether to show a progress bar.

    Returns:
        `Features` with `values` (n, dim) float32 and `labels` (n,) int64 or `None`.

    Raises:
        ValueError: if the backbone does not return one vector per image, the images do not fit the
            backbone, or a feature is not finite.
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
    """Returns the features of `train` and `test` with comparable labels.

    Labels are matched by class name. Test images of classes that `train` lacks are left out, with a
    warning.

    Raises:
        ValueError: if a set lacks labels, no class is shared, or the dimensions differ.
    """
    sets: dict[str, Any] = {"train": train, "test": test}
    for name, source in sets.items():
        check_labels(source, name)  # fail early: a pass over a large set is slow
    if not all(isinstance(source, Features) for source in sets.values()):
        if backbone is None:
            raise ValueError(
                "`backbone` can be None only if `train` and `test` are Features. Received: "
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
            "`train` and `test` must have features of the same dimension. Received: "
            f"train={widths[0]}, test={widths[1]}."
        )
    return sets["train"], match_features(sets["train"], sets["test"])


def match_features(train: Features, test: Features, strict: bool = False) -> Features:
    """Returns the test features, renumbered as those of `train`; see `data.classes.match_source`."""
    found = match_classes(train.targets, train.class_names, test.targets, test.class_names)
    found.check(train.name, test.name, strict)
    kept = np.flatnonzero(found.labels >= 0)
    if len(kept) == len(test) and np.array_equal(found.labels, test.targets):
        return test
    matched = replace(test, labels=found.labels, class_names=train.class_names)
    return matched.subset(kept)


def pixels(input_shape: tuple[int, int, int]) -> keras.Model:
    """Returns a "backbone" without parameters, whose features are the raw pixels.

    It is the baseline that every encoder should beat, evaluated by the same code.

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
        return (None,) * 4  # a subclassed model has no input shape
    if not isinstance(shape, tuple) or len(shape) != 4:
        raise ValueError(
            "`backbone` must take one tensor of images, (batch, height, width, channels). "
            f"Received: a model with input shape {shape}."
        )
    return shape


@contextlib.contextmanager
def _explain_unequal_sizes(name: str) -> Iterator[None]:
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        if not any(
            text in str(error) for text in ("Cannot batch", "Cannot add tensor to the batch")
        ):
            raise
        raise ValueError(
            f"The images of {name!r} must all have the same size, because the backbone takes any "
            "size. Received: images of different sizes. Pass an `augmentation` that resizes them, "
            "such as keras_ssl.augment.evaluation(224)."
        ) from error
