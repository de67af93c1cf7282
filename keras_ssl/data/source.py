"""The base class of all data sources: images by number, optionally with labels."""

import abc
import functools
import hashlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_ssl.data.labels import stratified_split
from keras_ssl.data.parallel import IMAGES, with_threads
from keras_ssl.data.value_range import ValueRange

_SAMPLES = 16  # images that a fingerprint reads


class Source(abc.ABC):
    """A collection of images with a known length and a fixed order.

    Args:
        name: name of the source in messages.
        size: number of images.
        image_shape: (height, width, channels) of every image; height and width are `None` if images
            have different sizes.
        labels: (size,) int64, with -1 for an image without a label; `None` if no image has one.
        class_names: the names of labels 0, 1, ..., if known.
        skipped: maps each skipped file to the reason.

    Attributes:
        random_access: whether `read`, `subset` and `split` work. If not, the images can only be
            streamed, by `dataset` or `shuffled`.
        typical_side: median of the shorter sides of the images in pixels; `None` if unknown.
        files: paths of the images, in order; `None` if they are not files.
        root: the folder that `files` are in, at any depth; `None` if they are not files.
        value_range: the values that became 0 and 1, if the images were scaled; see
            `keras_ssl.data.scaled`.
        clip_length: number of frames, if the source consists of clips of videos; `None` for images.

    Example:
        >>> source = keras_ssl.data.digits("train")
        >>> len(source), source.image_shape
        (1437, (8, 8, 1))
        >>> source.read(0).dtype
        tf.uint8
    """

    random_access = True
    files: list[str] | None = None
    root: str | None = None
    value_range: ValueRange | None = None
    clip_length: int | None = None

    def __init__(
        self,
        name: str,
        size: int,
        image_shape: tuple[int | None, int | None, int],
        labels: np.ndarray | None = None,
        class_names: list[str] | None = None,
        skipped: dict[str, str] | None = None,
    ):
        self.name = name
        self.image_shape = image_shape
        self.class_names = class_names
        self.skipped = {} if skipped is None else skipped
        sides = [side for side in image_shape[:2] if side is not None]
        self.typical_side = min(sides) if len(sides) == 2 else None
        self._fingerprint_shape = image_shape
        self._size = size
        self._labels = labels

    def __len__(self) -> int:
        """Returns the number of images."""
        return self._size

    def __repr__(self) -> str:
        """Returns the name, the number of images and the number of classes."""
        classes = f", {len(self.class_names)} classes" if self.class_names else ""
        return f"<{self.name}: {len(self)} images{classes}>"

    @property
    def labels(self) -> np.ndarray | None:
        """(n,) int64 labels in the order of the images, or `None`."""
        return self._labels

    @functools.cached_property
    def dtype(self) -> np.dtype:
        """NumPy type of the pixels."""
        return np.dtype(self.dataset().element_spec[0].dtype.as_numpy_dtype)

    @property
    def has_labels(self) -> bool:
        """Whether there are labels. Unlike `labels` of a streamed source, this reads no file."""
        return self.labels is not None

    @abc.abstractmethod
    def read(self, index: tf.Tensor | int) -> tf.Tensor:
        """Returns image number `index`, eagerly or in a graph.

        Args:
            index: scalar integer, 0 to `len(self) - 1`.

        Returns:
            (height, width, channels) image in uint8 or uint16, or float32 in [0, 1].

        Raises:
            TypeError: if the source has no random access.
        """

    def read_clip(self, index: tf.Tensor | int) -> tf.Tensor:
        """Returns the frames of clip number `index`, (clip_length, height, width, channels).

        Raises:
            TypeError: if the source consists of images.
        """
        raise TypeError(
            "`read_clip` needs a source of clips, such as keras_ssl.data.clips(folder). "
            f"Received: {self!r}"
        )

    @property
    def reads_batches(self) -> bool:
        """Whether `read` also takes (batch,) indices, which is much faster for images in memory."""
        return False

    def label(self, index: tf.Tensor | int) -> tf.Tensor:
        """Returns the label of image number `index`, eagerly or in a graph.

        Args:
            index: integers of any shape, 0 to `len(self) - 1`.

        Returns:
            int64 of the same shape; -1 for an image without a label.
        """
        if self.labels is None:
            return tf.fill(tf.shape(index), tf.constant(-1, tf.int64))
        with tf.device("CPU:0"):
            return tf.gather(self._label_column, index)

    @functools.cached_property
    def _label_column(self) -> tf.Tensor:
        with tf.init_scope():  # an eager tensor, which every graph can capture
            return cpu_tensor(np.asarray(self.labels, np.int64))

    def fingerprint(self) -> str:
        """Returns a hexadecimal SHA-256 that identifies the images.

        It covers the number of images, their shape, and, with random access, every n-th image, at
        most sixteen in all.
        """
        return self._pixel_fingerprint()

    def _pixel_fingerprint(self) -> str:
        digest = hashlib.sha256(f"{len(self)} {self._fingerprint_shape}".encode())
        if self.random_access:
            for index in range(0, len(self), -(-len(self) // _SAMPLES)):
                image = self.read(index).numpy()
                digest.update(f"{image.dtype} {image.shape}".encode())
                digest.update(np.ascontiguousarray(image).tobytes())
        return digest.hexdigest()

    def dataset(self) -> tf.data.Dataset:
        """Returns a data set of (image, label), unbatched and in order.

        Labels are int64; -1 for an image without a label.
        """
        indices = tf.data.Dataset.range(len(self))
        images = indices.map(lambda index: (self.read(index), self.label(index)), IMAGES)
        return with_threads(images)

    def shuffled(
        self,
        seed: int | tf.Tensor,
        buffer_size: int,
        labels: bool = False,
        choose: Callable[[tf.data.Dataset], tf.data.Dataset] = lambda images: images,
    ) -> tf.data.Dataset:
        """Returns a data set of (index, image), shuffled in a buffer; indices are int64.

        Args:
            seed: seed of the order; an integer, or a scalar int64 tensor in a graph.
            buffer_size: images in the buffer, from which each image is drawn at random. They are
                decoded only after they are drawn.
            labels: return (index, image, label); labels are int64, -1 for an image without a label.
            choose: selects which shuffled images to decode. It maps the data set of images that are
                not decoded yet to a part of it, such as `lambda images: images.take(100)`.
        """

        def element(index):
            found = index, self.read(index)
            return (*found, self.label(index)) if labels else found

        indices = tf.data.Dataset.range(len(self))
        indices = choose(shuffle(seed, indices, buffer_size))
        return indices.map(element, IMAGES)

    def subset(self, indices: np.ndarray | list[int]) -> "Source":
        """Returns a source of the images with the given indices, in the given order.

        Args:
            indices: (m,) integers, 0 to `len(self) - 1`, which may repeat; or (n,) booleans, such
                as `source.labels == 3`.

        Raises:
            TypeError: if `indices` are neither integers nor booleans, or the source is streamed.
            ValueError: if `indices` are empty, not one-dimensional, or out of range.

        Example:
            >>> len(keras_ssl.data.digits("all").subset([3, 1, 4]))
            3
        """
        if not self.random_access:
            raise no_random_access_error("subset", self.name)
        return Subset(self, indices)

    def split(self, fraction: float = 0.2, seed: int = 0) -> tuple["Source", "Source"]:
        """Splits the images at random into two sources.

        If there are labels, each class is split in the same proportion. Both parts keep the order
        of the source. The same seed gives the same split.

        Args:
            fraction: fraction of the images in the second source, between 0 and 1.
            seed: seed of the random split.

        Returns:
            (train, test) with about `(1 - fraction) * n` and `fraction * n` images.

        Raises:
            TypeError: if the source is streamed.
            ValueError: if `fraction` is out of range, or there are too few images to split.

        Example:
            >>> train, test = keras_ssl.data.digits("all").split(0.25, seed=1)
            >>> len(train), len(test)
            (1347, 450)
        """
        if not self.random_access:
            raise no_random_access_error("split", self.name)
        train, test = stratified_split(
            len(self), self.labels, fraction, seed, self.name, self.class_names
        )
        return self.subset(train), self.subset(test)


class Subset(Source):
    """Selected images of a source with random access; see `Source.subset`."""

    def __init__(self, source: Source, indices: np.ndarray | list[int]):
        chosen = validate_indices(indices, len(source), source.name)
        labels = None if source.labels is None else source.labels[chosen]
        super().__init__(
            f"{source.name} ({len(chosen)} of {len(source)})",
            len(chosen),
            source.image_shape,
            labels,
            source.class_names,
            source.skipped,
        )
        self.dtype, self.value_range = source.dtype, source.value_range
        self.typical_side = source.typical_side
        self._fingerprint_shape = source._fingerprint_shape
        if source.files is not None:
            self.files, self.root = [source.files[index] for index in chosen], source.root
        self._source = source
        self._indices = cpu_tensor(chosen)

    @property
    def reads_batches(self) -> bool:
        """Whether `read` of the original source takes (batch,) indices."""
        return self._source.reads_batches

    def read(self, index: tf.Tensor | int) -> tf.Tensor:
        """Returns image number `index` of the subset."""
        with tf.device("CPU:0"):
            return self._source.read(tf.gather(self._indices, index))


def shuffle(seed: int | tf.Tensor, dataset: tf.data.Dataset, buffer_size: int) -> tf.data.Dataset:
    """Returns a data set shuffled in a buffer, in an order that depends on `seed` alone."""
    if not tf.executing_eagerly():
        # TensorFlow combines the graph's seed, which comes from the global one, with that of
        # `shuffle`. With a global seed of 0 it does not accept a tensor as seed.
        tf.random.set_seed(1)
    return dataset.shuffle(buffer_size, seed=seed, reshuffle_each_iteration=False)


def cpu_tensor(values: np.ndarray) -> tf.Tensor:
    """Returns values as a tensor in host memory, where `tf.data` reads them without a copy.

    Graphs capture the tensor instead of holding a second copy.
    """
    with tf.device("CPU:0"):
        return tf.constant(values)


def no_random_access_error(method: str, name: str) -> TypeError:
    """Returns the error for a method that the streamed source `name` does not support."""
    return TypeError(
        f"`{method}` needs a source with random access. Received: {name!r}, which is streamed "
        "because it is too large for memory. Load a part of it, such as the split 'train[:10%]', or "
        "raise `in_memory_limit`."
    )


def validate_indices(indices: np.ndarray | list[int], size: int, name: str) -> np.ndarray:
    """Returns the (m,) int64 indices of a subset; see `Source.subset`."""
    chosen = np.asarray(indices)
    if chosen.ndim != 1 or chosen.size == 0:
        raise ValueError(
            "`indices` must be a flat list of at least one number. "
            f"Received: shape={chosen.shape} for {name!r}"
        )
    if chosen.dtype == bool:
        if len(chosen) != size or not chosen.any():
            raise ValueError(
                f"Boolean `indices` must have {size} values, one per image, and select at least "
                f"one. Received: {len(chosen)} values, {chosen.sum()} of them true, for {name!r}"
            )
        return np.flatnonzero(chosen).astype(np.int64)
    if not np.issubdtype(chosen.dtype, np.integer):
        raise TypeError(f"`indices` must be integers or booleans. Received: {chosen.dtype}")
    if chosen.min() < 0 or chosen.max() >= size:
        raise ValueError(
            f"`indices` must lie in 0 to {size - 1} for {name!r}. "
            f"Received: {chosen.min()} to {chosen.max()}"
        )
    return chosen.astype(np.int64)
