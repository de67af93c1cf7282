"""Sources of images from TensorFlow Datasets."""

import difflib
import logging
import os
import pathlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ssl.data.parallel import IMAGES, with_threads
from keras_ssl.data.source import Source, no_random_access_error, shuffle

_LOG = logging.getLogger("keras_ssl")
_MEMORY_LIMIT = 4 * 2**30  # bytes


def tfds(
    name: str,
    split: str,
    data_dir: str | os.PathLike | None = None,
    in_memory_limit: int = _MEMORY_LIMIT,
    download: bool = True,
) -> Source:
    """Returns a source of the images in a split of a TensorFlow Datasets data set.

    The images stay encoded in memory (as PNG or JPEG) and are decoded when they are read. A split
    of more than `in_memory_limit` bytes is streamed instead: it has no random access, and reading
    its `labels` takes a pass over the files.

    Args:
        name: name for `tfds.load`, such as "cifar10", "mnist_corrupted/fog" or "cifar10:3.0.2".
        split: "train", "test[:10%]", "train+test", ...
        data_dir: folder of prepared data sets; `~/tensorflow_datasets` by default. A data set that
            is prepared there is read without network access, whatever its version.
        in_memory_limit: largest size of a split in memory, in bytes of encoded images.
        download: whether to download and prepare a data set that is not prepared yet.

    Raises:
        FileNotFoundError: if the data set is not prepared and `download` is false.
        ValueError: if the data set or split does not exist, the split is empty, or the data set has
            no images, or float images, whose range is unknown.

    Example:
        >>> source = tfds("cifar10", "train")
        >>> len(source), source.image_shape
        (50000, (32, 32, 3))
    """
    builder = _prepared_builder(name, None if data_dir is None else os.fspath(data_dir), download)
    info = builder.info
    size = _split_size(name, split, info)
    image_key, label_key = _choose_keys(name, info)
    image = info.features[image_key]
    label = None if label_key is None else info.features[label_key]

    total = sum(part.num_examples for part in info.splits.values())
    if info.dataset_size * size / total > in_memory_limit:
        return StreamedSource(builder, split, size, image_key, label_key, f"{name} {split}")
    examples = _read_encoded(builder, split, image_key, label_key)
    columns = examples.batch(size).get_single_element()
    return EncodedSource(
        columns[image_key],
        image,
        None if label_key is None else columns[label_key].numpy(),
        None if label is None else list(label.names),
        f"{name} {split}",
    )


class EncodedSource(Source):
    """Encoded images of a data set, held in memory; see `tfds`."""

    def __init__(
        self,
        encoded: tf.Tensor,
        feature: Any,
        labels: np.ndarray | None,
        class_names: list[str] | None,
        name: str,
    ):
        labels = _drop_missing_labels(labels)
        super().__init__(name, len(encoded), _image_shape(feature), labels, class_names)
        self._encoded = encoded
        self._dtype = feature.np_dtype

    def read(self, index: tf.Tensor | int) -> tf.Tensor:
        """Returns image number `index`, in uint8 or uint16 as in the data set."""
        with tf.device("CPU:0"):
            encoded = tf.gather(self._encoded, index)
            return _decode(encoded, self.image_shape, self._dtype)


class StreamedSource(Source):
    """Images that are read from the files of a data set, in the order of the files; see `tfds`.

    The first access to `labels` reads all files.
    """

    random_access = False

    def __init__(
        self,
        builder: Any,
        split: str,
        size: int,
        image_key: str,
        label_key: str | None,
        name: str,
    ):
        features = builder.info.features
        names = None if label_key is None else list(features[label_key].names)
        super().__init__(name, size, _image_shape(features[image_key]), None, names)
        self._examples = _read_encoded(builder, split, image_key, label_key)
        self._image_key, self._label_key = image_key, label_key
        self._dtype = features[image_key].np_dtype
        self._labels_read = label_key is None

    @property
    def labels(self) -> np.ndarray | None:
        """(n,) int64 labels in the order of the files, or `None`."""
        if not self._labels_read:
            _LOG.info("Reading the labels of %r: a pass over all its files", self.name)
            column = self._examples.map(lambda example: example[self._label_key])
            labels = column.batch(len(self)).get_single_element().numpy()
            self._labels = _drop_missing_labels(labels)
            self._labels_read = True
        return self._labels

    @property
    def has_labels(self) -> bool:
        """Whether the data set has a label feature; this split may still have no labels."""
        return not self._labels_read or self._labels is not None

    def read(self, index: tf.Tensor | int) -> tf.Tensor:
        """Raises TypeError, because a streamed source has no random access."""
        raise no_random_access_error("read", self.name)

    def dataset(self) -> tf.data.Dataset:
        """Returns a data set of (image, label), in the order of the files; see `Source.dataset`."""
        return with_threads(self._examples.map(self._decode_example, IMAGES))

    def shuffled(
        self,
        seed: int | tf.Tensor,
        buffer_size: int,
        labels: bool = False,
        choose: Callable[[tf.data.Dataset], tf.data.Dataset] = lambda images: images,
    ) -> tf.data.Dataset:
        """Returns a data set of (index, image), shuffled in a buffer of encoded images.

        Files are read in order; TensorFlow Datasets has shuffled the examples when it wrote them.
        See `Source.shuffled` for the arguments.
        """

        def element(index, example):
            image, label = self._decode_example(example)
            return (index, image, label) if labels else (index, image)

        examples = choose(shuffle(seed, self._examples.enumerate(), buffer_size))
        return examples.map(element, IMAGES)

    def _decode_example(self, example: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        image = _decode(example[self._image_key], self.image_shape, self._dtype)
        missing = tf.constant(-1, tf.int64)
        return image, missing if self._label_key is None else example[self._label_key]


def _prepared_builder(name: str, data_dir: str | None, download: bool) -> Any:
    """Returns the builder of a data set, which it prepares if necessary."""
    # Takes two seconds to import, and most programs use their own images.
    import tensorflow_datasets as library
    from tensorflow_datasets.core import read_only_builder, registered

    if not re.split("[/:]", name)[0].isidentifier():
        raise _unknown_name_error(name, data_dir)
    try:
        # Files first: a newer release of TensorFlow Datasets may want a newer version of the data.
        return read_only_builder.builder_from_files(name, data_dir=data_dir)
    except registered.DatasetNotFoundError:
        pass
    try:
        builder = library.builder(name, data_dir=data_dir)
    except registered.DatasetNotFoundError:
        raise _unknown_name_error(name, data_dir) from None
    if not builder.is_prepared():
        if not download:
            raise FileNotFoundError(
                "With `download=False` the data set must already be prepared. "
                f"Received: name={name!r}, which is not in {str(builder.data_dir)!r}"
            )
        try:
            builder.download_and_prepare()
        except AssertionError as error:  # raised if files must be downloaded by hand
            raise FileNotFoundError(
                f"The files of {name!r} must be downloaded by hand. {error}"
            ) from error
    return builder


def _unknown_name_error(name: str, data_dir: str | None) -> ValueError:
    import tensorflow_datasets as library

    known = set(library.list_builders(with_community_datasets=False))
    if data_dir is not None and pathlib.Path(data_dir).is_dir():
        known |= {path.name for path in pathlib.Path(data_dir).iterdir() if path.is_dir()}
    base = re.split("[/:]", name)[0].lower()
    near = difflib.get_close_matches(base, sorted(known), n=5)
    return ValueError(
        "`name` must be a data set of TensorFlow Datasets, or one that is prepared in `data_dir`. "
        f"The nearest names: {', '.join(near) or 'none'}. "
        f"Received: name={name!r}, data_dir={data_dir!r}"
    )


def _split_size(name: str, split: str, info: Any) -> int:
    try:
        size = info.splits[split].num_examples
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"`split` must be one of {', '.join(map(repr, info.splits))} of {name!r}, or a "
            f"combination or part of them, such as 'train[:10%]'. Received: split={split!r}. {error}"
        ) from error
    if size == 0:
        raise ValueError(
            f"`split` must hold images. Received: split={split!r} of {name!r}, which is empty"
        )
    return size


def _choose_keys(name: str, info: Any) -> tuple[str, str | None]:
    """Returns the keys of the image and the label.

    They are the supervised keys, else the only feature of the kind, else the one with the usual
    name.
    """
    from tensorflow_datasets import features as kinds

    def choose(kind, supervised, usual):
        keys = sorted(key for key, feature in info.features.items() if isinstance(feature, kind))
        # Segmentation masks are images too.
        keys = [key for key in keys if not isinstance(info.features[key], kinds.LabeledImage)]
        for key in (supervised, keys[0] if len(keys) == 1 else None, usual):
            if key in keys:
                return key, keys
        return None, keys

    if not isinstance(info.features, kinds.FeaturesDict):
        raise ValueError(f"{name!r} must have named features. Received: {info.features}")
    supervised = info.supervised_keys
    if not supervised or len(supervised) != 2:
        supervised = (None, None)
    image_key, keys = choose(kinds.Image, supervised[0], "image")
    if image_key is None:
        found = f"several, {', '.join(keys)}, none" if keys else "none"
        features = ", ".join(
            f"{key} ({type(value).__name__})" for key, value in sorted(info.features.items())
        )
        raise ValueError(
            f"{name!r} must have one image feature, or one named 'image'. Received: {found} "
            f"among the features {features}"
        )
    if info.features[image_key].np_dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"The images of {name!r} must be uint8 or uint16; the range of others is unknown. "
            f"Received: {image_key!r} of {tf.as_dtype(info.features[image_key].np_dtype).name}"
        )
    return image_key, choose(kinds.ClassLabel, supervised[1], "label")[0]


def _read_encoded(
    builder: Any, split: str, image_key: str, label_key: str | None
) -> tf.data.Dataset:
    """Returns a data set of examples with encoded images, in the order of the files."""
    import tensorflow_datasets as library

    wanted = {key: True for key in (image_key, label_key) if key is not None}
    return builder.as_dataset(
        split=split,
        decoders=library.decode.PartialDecoding(
            wanted, decoders={image_key: library.decode.SkipDecoding()}
        ),
        # The cache of TensorFlow Datasets would be a second copy in memory.
        read_config=library.ReadConfig(try_autocache=False, skip_prefetch=True),
        shuffle_files=False,
    )


def _image_shape(feature: Any) -> tuple[int | None, int | None, int]:
    height, width, channels = feature.shape
    return height, width, channels or 3  # images with an unspecified number are decoded to RGB


def _decode(encoded: tf.Tensor, shape: tuple[int | None, int | None, int], dtype: Any) -> tf.Tensor:
    image = tf.io.decode_image(
        encoded, channels=shape[2], dtype=tf.as_dtype(dtype), expand_animations=False
    )
    image.set_shape(shape)
    return image


def _drop_missing_labels(labels: np.ndarray | None) -> np.ndarray | None:
    """Returns the labels, or `None` if all are -1, as in splits without labels."""
    return None if labels is None or labels.max() < 0 else labels
