"""Sources of images from NumPy arrays and `.npz` files."""

import os
import pathlib
import zipfile
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_ssl.data.labels import number_names, validate_labels
from keras_ssl.data.npz_size import check_fits
from keras_ssl.data.scaled import Range, scale
from keras_ssl.data.source import Source, cpu_tensor

_DATA_FORMATS = ("auto", "channels_last", "channels_first")
_MOST_COLORS = 4  # channels of ordinary images


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
        self.dtype = images.dtype
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
    labels: np.ndarray | Sequence[int | str] | None = None,
    class_names: list[str] | None = None,
    name: str = "arrays",
    value_range: Range = "full",
    data_format: str = "auto",
) -> Source:
    """Returns a source with a copy of the images in an array.

    Args:
        images: (n, height, width, channels) with any number of channels, or (n, height, width) for
            one channel; uint8, uint16, or float in [0, 1] (stored as float32). With `value_range`
            also other integers and floats.
        labels: (n,) or (n, 1) integers, -1 for an image without a label; or strings, "" for an image
            without a label.
        class_names: the names of labels 0, 1, ..., all different. For strings, the default is the
            labels, sorted by name.
        name: name of the source in messages.
        value_range: (low, high) scales the values from `low` to `high` to [0, 1]; "auto" measures
            a range for each channel; see `keras_ssl.data.scaled`.
        data_format: "channels_last"; "channels_first" transposes (n, channels, height, width); or
            "auto", which refuses images that look as if their channels came first.

    Raises:
        TypeError: if `images` or `labels` have an unsupported dtype.
        ValueError: if the shapes do not match, `images` is empty, floats are outside [0, 1], two
            classes have the same name, or `class_names` lacks a label.

    Example:
        >>> source = arrays(np.zeros((10, 32, 32, 3), np.uint8), labels=np.arange(10) % 2)
        >>> len(source), source.image_shape
        (10, (32, 32, 3))
    """
    return scale(
        raw_arrays(images, labels, class_names, name, value_range, data_format), value_range
    )


def raw_arrays(
    images: np.ndarray,
    labels: np.ndarray | Sequence[int | str] | None,
    class_names: list[str] | None,
    name: str,
    value_range: Range = "full",
    data_format: str = "auto",
) -> Source:
    """Returns the source of `arrays` before its values are scaled by `value_range`."""
    images = _channels_last(np.asarray(images), data_format, name)
    values = _validate_images(images, name, any_range=value_range != "full")
    if class_names is not None:
        class_names = [str(class_name) for class_name in class_names]
        if len(set(class_names)) < len(class_names):  # classes are matched by name
            raise ValueError(f"`class_names` must differ. Received: {class_names} for {name!r}")
    if labels is not None:
        labels, class_names = number_names(labels, class_names, name)
    numbers = validate_labels(labels, len(values), class_names, name)
    return ArraySource(values, numbers, class_names, name)


def npz(path: str | os.PathLike, split: str = "train", value_range: Range = "full") -> Source:
    """Returns a source of the images in a NumPy `.npz` file.

    Args:
        path: a file with the keys `x_train`, `y_train`, `x_test`, `y_test`, or `images` and
            `labels`, which may be strings. Labels, and splits that are not asked for, may be missing.
            `class_names` and
            `data_format` (see `arrays`) are read if present. Only the requested split is read.
        split: the split to read, such as "train" for `x_train`. A file with `images` has only
            "train".
        value_range: see `arrays`.

    Raises:
        FileNotFoundError: if the file does not exist.
        TypeError: if the arrays have a dtype that `arrays` does not accept.
        ValueError: if the file is not an `.npz` file, does not hold the split, does not fit into
            memory, or holds arrays that `arrays` does not accept.

    Example:
        >>> np.savez("few.npz", images=np.zeros((10, 8, 8), np.uint8))
        >>> len(npz("few.npz"))
        10
    """
    return scale(raw_npz(path, split, value_range), value_range)


def raw_npz(
    path: str | os.PathLike, split: str, value_range: Range = "full", data_format: str = "auto"
) -> Source:
    """Returns the source of `npz` before its values are scaled by `value_range`.

    Args:
        path: see `npz`.
        split: see `npz`.
        value_range: see `npz`.
        data_format: see `arrays`, for a file that does not name its own.
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
        check_fits(path, [image_key])
        images = file[image_key]
        labels = file[label_key] if label_key in file.files else None
        names = file["class_names"].tolist() if "class_names" in file.files else None
        layout = str(file["data_format"]) if "data_format" in file.files else data_format
    return raw_arrays(images, labels, names, f"{path.name} {split}", value_range, layout)


def _channels_last(images: np.ndarray, data_format: str, name: str) -> np.ndarray:
    """Returns images as (n, height, width, channels), or refuses those that do not look like it."""
    if data_format not in _DATA_FORMATS:
        raise ValueError(
            f"`data_format` must be one of {', '.join(_DATA_FORMATS)}. "
            f"Received: data_format={data_format!r} for {name!r}"
        )
    if images.ndim != 4 or data_format == "channels_last":
        return images
    if data_format == "channels_first":
        return images.transpose(0, 2, 3, 1)
    first, height, width = images.shape[1:]
    is_short = first < height and first < width
    if is_short and (height == width or first <= _MOST_COLORS < width):
        raise ValueError(
            "`images` must have the shape (n, height, width, channels). "
            f"Received: images of shape {images.shape} for {name!r}, which look like {height} x "
            f"{width} images whose {first} channels come first. Expected: "
            "`images.transpose(0, 2, 3, 1)`, which has the shape "
            f"{(len(images), height, width, first)}. If they are {first} x {height} images of "
            f"{width} channels, pass data_format='channels_last' to `keras_ssl.data.arrays`, or "
            "save it in the .npz file: np.savez(..., data_format='channels_last')"
        )
    return images


def _validate_images(images: np.ndarray, name: str, any_range: bool) -> np.ndarray:
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
        if any_range and not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError(
                "Float `images` must be finite. Received: NaN or infinity, in values from "
                f"{low:g} to {high:g} for {name!r}"
            )
        if not any_range and not (low >= 0 and high <= 1):
            raise ValueError(
                "Float `images` must lie in [0, 1] and hold no NaN; store values from 0 to 255 as "
                "uint8, or pass the range: `--value-range LOW HIGH` or `auto` (in Python: "
                f"value_range=(low, high)). Received: values from {low:g} to {high:g} for {name!r}"
            )
        images = images.astype(np.float32, copy=False)
    elif images.dtype not in (np.uint8, np.uint16):
        if not (any_range and np.issubdtype(images.dtype, np.integer)):
            raise TypeError(
                "`images` must be uint8, uint16, or float in [0, 1]. Other integers need their "
                "range: `--value-range LOW HIGH` or `auto` (in Python: value_range=(low, high)). "
                f"Received: {images.dtype} for {name!r}"
            )
        if images.dtype != np.int16:
            images = images.astype(np.int16 if images.dtype == np.int8 else np.float32)
    return images if images.ndim == 4 else images[..., None]
