"""Sources of images from NumPy arrays and `.npz` files."""

import os
import pathlib
import zipfile

import numpy as np
import tensorflow as tf

from keras_ssl.data.labels import validate_labels
from keras_ssl.data.source import Source, cpu_tensor


class ArraySource(Source):
    """Images of equal size, held in one tensor; see `arrays`."""

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray | None,
        class_names: list[str] | None,
        name: str,
    ):
        height, width, channels = images.shape[1:]
        super().__init__(name, len(images), (height, width, channels), labels, class_names)
        self._images = cpu_tensor(images)

    @property
    def reads_batches(self) -> bool:
        """Whether `read` takes several numbers at once; false if a subclass overrides `read`."""
        return type(self).read is ArraySource.read

    def read(self, index: tf.Tensor | int) -> tf.Tensor:
        """Returns the image, or images, with number `index`, in the dtype of the array."""
        with tf.device("CPU:0"):
            return tf.gather(self._images, index)


def arrays(
    images: np.ndarray,
    labels: np.ndarray | None = None,
    class_names: list[str] | None = None,
    name: str = "arrays",
) -> Source:
    """Returns a source with a copy of the images in an array.

    Args:
        images: (n, height, width, channels) with any number of channels, or (n, height, width) for
            one channel; uint8, uint16, or float in [0, 1] (stored as float32).
        labels: (n,) or (n, 1) integers; -1 marks an image without a label.
        class_names: the names of labels 0, 1, ...
        name: name of the source in messages.

    Raises:
        TypeError: if `images` or `labels` have an unsupported dtype.
        ValueError: if the shapes do not match, `images` is empty, or floats are outside [0, 1].

    Example:
        >>> source = arrays(np.zeros((10, 32, 32, 3), np.uint8), labels=np.arange(10) % 2)
        >>> len(source), source.image_shape
        (10, (32, 32, 3))
    """
    values = _validate_images(np.asarray(images), name)
    if class_names is not None:
        class_names = [str(class_name) for class_name in class_names]
    labels = validate_labels(labels, len(values), class_names, name)
    return ArraySource(values, labels, class_names, name)


def npz(path: str | os.PathLike, split: str = "train") -> Source:
    """Returns a source of the images in a NumPy `.npz` file.

    Args:
        path: a file with the keys `x_train`, `y_train`, `x_test`, `y_test`, or `images` and
            `labels`. Labels, and splits that are not asked for, may be missing. `class_names` is
            read if present. Only the requested split is read.
        split: the split to read, such as "train" for `x_train`. A file with `images` has only
            "train".

    Raises:
        FileNotFoundError: if the file does not exist.
        TypeError: if the arrays have a dtype that `arrays` does not accept.
        ValueError: if the file is not an `.npz` file, does not hold the split, or holds arrays that
            `arrays` does not accept.

    Example:
        >>> np.savez("few.npz", images=np.zeros((10, 8, 8), np.uint8))
        >>> len(npz("few.npz"))
        10
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`path` must be an .npz file. Received: path={str(path)!r}")
    if not zipfile.is_zipfile(path):
        raise ValueError(
            "`path` must be an .npz file, as written by `np.savez`. "
            f"Received: {str(path)!r}, {path.stat().st_size} bytes in another format"
        )
    # Each access to a key reads and decompresses the entire array.
    with np.load(path) as file:
        image_key, label_key = f"x_{split}", f"y_{split}"
        if split == "train" and image_key not in file.files:
            image_key, label_key = "images", "labels"
        if image_key not in file.files:
            expected = "'x_train' or 'images'" if split == "train" else repr(image_key)
            raise ValueError(
                f"{str(path)!r} has no images for the split {split!r}. Expected the key: "
                f"{expected}. Received the keys: {', '.join(map(repr, file.files))}"
            )
        images = file[image_key]
        labels = file[label_key] if label_key in file.files else None
        names = file["class_names"].tolist() if "class_names" in file.files else None
    return arrays(images, labels, names, name=f"{path.name} {split}")


def _validate_images(images: np.ndarray, name: str) -> np.ndarray:
    if images.ndim not in (3, 4):
        raise ValueError(
            "`images` must have the shape (n, height, width, channels) or (n, height, width). "
            f"Received: images of shape {images.shape} for {name!r}"
        )
    if images.size == 0:
        raise ValueError(
            "`images` must hold at least one image. "
            f"Received: images of shape {images.shape} for {name!r}"
        )
    if np.issubdtype(images.dtype, np.floating):
        low, high = images.min(), images.max()  # NaN if any value is
        if not (low >= 0 and high <= 1):
            raise ValueError(
                "Float `images` must lie in [0, 1] and hold no NaN; store values from 0 to 255 as "
                f"uint8. Received: values from {low:g} to {high:g} for {name!r}"
            )
        images = images.astype(np.float32, copy=False)
    elif images.dtype not in (np.uint8, np.uint16):
        raise TypeError(
            "`images` must be uint8, uint16, or float in [0, 1]. "
            f"Received: {images.dtype} for {name!r}"
        )
    return images if images.ndim == 4 else images[..., None]
