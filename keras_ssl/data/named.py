"""Data sets by name, from TensorFlow Datasets."""

import difflib
import logging
import os
import pathlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ssl.data.parallel import IMAGES
from keras_ssl.data.source import Source, no_random_access, shuffled_by

_LOG = logging.getLogger("keras_ssl")
_IN_MEMORY = 4 * 2**30


def tfds(
    name: str,
    split: str,
    data_dir: str | os.PathLike | None = None,
    in_memory_limit: int = _IN_MEMORY,
    download: bool = True,
) -> Source:
    """Returns a source of the images of a TensorFlow Datasets split.

    The encoded images (PNG or JPEG, as the data set holds them) are kept in memory and decoded when
    they are read. A set of more than `in_memory_limit` bytes is streamed: it has no random access,
    and its labels, if asked for, cost a pass over the files.

    Args:
        name: as `tfds.load` takes it: "cifar10", "mnist_corrupted/fog", "cifar10:3.0.2".
        split: "train", "test[:10%]", "train+test", ...
        data_dir: folder of prepared data sets, `~/tensorflow_datasets` if not given. A set that is
            prepared there is read without network, in any version.
        in_memory_limit: bytes of encoded images, 4 GiB unless told.
        download: whether a set that is not prepared may be downloaded and prepared.

    Raises:
        FileNotFoundError: if the set is not prepared and `download` is false.
        ValueError: if there is no such set or split, the split is empty, or the set has no images
            (or float images, whose range is not known).

    Example:
        >>> source = tfds("cifar10", "train")
        >>> len(source), source.image_shape
        (50000, (32, 32, 3))
    """
    builder = _builder(name, None if data_dir is None else os.fspath(data_dir), download)
    info = builder.info
    size = _split_size(name, split, info)
    image_key, label_key = _image_and_label(name, info)
    image = info.features[image_key]
    label = None if label_key is None else info.features[label_key]

    total = sum(part.num_examples for part in info.splits.values())
    if info.dataset_size * size / total > in_memory_limit:
        return StreamedSource(builder, split, size, image_key, label_key, f"{name} {split}")
    examples = _encoded(builder, split, image_key, label_key)
    columns = examples.batch(size).get_single_element()
    return EncodedSource(
        columns[image_key],
        image,
        None if label_key is None else columns[label_key].numpy(),
        None if label is None else list(label.names),
        f"{name} {split}",
    )


class EncodedSource(Source):
    """Images held in memory as they are encoded in the files of a data set; see `tfds`."""

    def __init__(
        self,
        encoded: tf.Tensor,
        feature: Any,
        labels: np.ndarray | None,
        class_names: list[str] | None,
        name: str,
    ):
        super().__init__(name, len(encoded), _shape(feature), _known(labels), class_names)
        self._encoded = encoded
        self._dtype = feature.np_dtype

    def read(self, index: tf.Tensor | int) -> tf.Tensor:
        """Returns image number `index`, uint8 or uint16 as the data set has it."""
        with tf.device("CPU:0"):
            encoded = tf.gather(self._encoded, index)
            return _decode(encoded, self.image_shape, self._dtype)


class StreamedSource(Source):
    """Images that are read from the files of a data set in their order; see `tfds`.

    `labels` reads all files, when it is asked for the first time.
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
        super().__init__(name, size, _shape(features[image_key]), None, names)
        self._examples = _encoded(builder, split, image_key, label_key)
        self._image_key, self._label_key = image_key, label_key
        self._dtype = features[image_key].np_dtype
        self._labels_read = label_key is None

    @property
    def labels(self) -> np.ndarray | None:
        """(n,) int64 labels in the order of the files, or `None`."""
        if not self._labels_read:
            _LOG.info("Reading the labels of %r, a pass over its files", self.name)
            column = self._examples.map(lambda example: example[self._label_key])
            self._labels = _known(column.batch(len(self)).get_single_element().numpy())
            self._labels_read = True
        return self._labels

    @property
    def has_labels(self) -> bool:
        """Whether the data set names a label; a split that holds them back may still have none."""
        return not self._labels_read or self._labels is not None

    def read(self, index: tf.Tensor | int) -> tf.Tensor:
        """Raises TypeError: files are read in their order."""
        raise no_random_access("read", self.name)

    def dataset(self) -> tf.data.Dataset:
        """Returns a data set of (image, label int64; -1 without), in the order of the files."""
        return self._examples.map(self._image_and_label, IMAGES)

    def shuffled(
        self,
        seed: int | tf.Tensor,
        buffer_size: int,
        labels: bool = False,
        choose: Callable[[tf.data.Dataset], tf.data.Dataset] = lambda images: images,
    ) -> tf.data.Dataset:
        """Returns a data set of (index int64, image), shuffled within a buffer of encoded images.

        Reads the files in their order, which TensorFlow Datasets shuffles when it writes them; see
        `Source.shuffled`.
        """

        def element(index, example):
            image, label = self._image_and_label(example)
            return (index, image, label) if labels else (index, image)

        examples = choose(shuffled_by(seed, self._examples.enumerate(), buffer_size))
        return examples.map(element, IMAGES)

    def _image_and_label(self, example: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        image = _decode(example[self._image_key], self.image_shape, self._dtype)
        missing = tf.constant(-1, tf.int64)
        return image, missing if self._label_key is None else example[self._label_key]


def _builder(name: str, data_dir: str | None, download: bool) -> Any:
    """Returns the builder of a data set that is prepared."""
    # Takes two seconds to import, and most programs bring their own images.
    import tensorflow_datasets as library
    from tensorflow_datasets.core import read_only_builder, registered

    if not re.split("[/:]", name)[0].isidentifier():
        raise _unknown_name(name, data_dir)
    try:
        # Files first: the code of a newer release would ask for a newer version of the data.
        return read_only_builder.builder_from_files(name, data_dir=data_dir)
    except registered.DatasetNotFoundError:
        pass
    try:
        builder = library.builder(name, data_dir=data_dir)
    except registered.DatasetNotFoundError:
        raise _unknown_name(name, data_dir) from None
    if not builder.is_prepared():
        if not download:
            raise FileNotFoundError(
                "With `download=False` the data set must be prepared. "
                f"Received: name={name!r}, which is not in {str(builder.data_dir)!r}"
            )
        builder.download_and_prepare()
    return builder


def _unknown_name(name: str, data_dir: str | None) -> ValueError:
    import tensorflow_datasets as library

    known = set(library.list_builders(with_community_datasets=False))
    if data_dir is not None and pathlib.Path(data_dir).is_dir():
        known |= {path.name for path in pathlib.Path(data_dir).iterdir() if path.is_dir()}
    base = re.split("[/:]", name)[0].lower()
    near = difflib.get_close_matches(base, sorted(known), n=5)
    return ValueError(
        "`name` must be a data set that TensorFlow Datasets knows, or one that is prepared in "
        f"`data_dir`. The nearest names: {', '.join(near) or 'none is near'}. "
        f"Received: name={name!r}, data_dir={data_dir!r}"
    )


def _split_size(name: str, split: str, info: Any) -> int:
    try:
        size = info.splits[split].num_examples
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"`split` must be one of {', '.join(map(repr, info.splits))} of {name!r}, or made of "
            f"them, such as 'train[:10%]'. Received: split={split!r}. {error}"
        ) from error
    if size == 0:
        raise ValueError(f"`split` must hold images. Received: split={split!r} of {name!r}, empty")
    return size


def _image_and_label(name: str, info: Any) -> tuple[str, str | None]:
    """Returns the keys of the image and of the label: supervised, else the only, else by name."""
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
        raise ValueError(f"{name!r} must have features by name. Received: {info.features}")
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
            f"{name!r} must have one image feature, or one called 'image'. Received: {found} "
            f"among the features {features}"
        )
    if info.features[image_key].np_dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"The images of {name!r} must be uint8 or uint16: the range of others is not known. "
            f"Received: {image_key!r} of {tf.as_dtype(info.features[image_key].np_dtype).name}"
        )
    return image_key, choose(kinds.ClassLabel, supervised[1], "label")[0]


def _encoded(builder: Any, split: str, image_key: str, label_key: str | None) -> tf.data.Dataset:
    """Returns a data set of examples, in the order of the files, whose images are encoded bytes."""
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


def _shape(feature: Any) -> tuple[int | None, int | None, int]:
    height, width, channels = feature.shape
    return height, width, channels or 3  # those that leave it open are decoded to RGB


def _decode(encoded: tf.Tensor, shape: tuple[int | None, int | None, int], dtype: Any) -> tf.Tensor:
    image = tf.io.decode_image(
        encoded, channels=shape[2], dtype=tf.as_dtype(dtype), expand_animations=False
    )
    image.set_shape(shape)
    return image


def _known(labels: np.ndarray | None) -> np.ndarray | None:
    """Returns the labels, or `None` if no image has one: unlabelled splits hold -1."""
    return None if labels is None or labels.max() < 0 else labels
