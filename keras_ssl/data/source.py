"""What every kind of data becomes: numbered images, with labels where there are any."""

import abc
import functools
import hashlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_ssl.data.labels import stratified
from keras_ssl.data.parallel import IMAGES

_SAMPLES = 16  # images that a fingerprint reads


class Source(abc.ABC):
    """Images that can be counted, read by number, and listed in a fixed order.

    Args:
        name: how messages call the source.
        size: number of images.
        image_shape: (height, width, channels) of every image; height and width are `None` where
            images differ.
        labels: (size,) int64, -1 for an image without a label; `None` if no image has one.
        class_names: the names of labels 0, 1, ..., if known.
        skipped: files left out, and why.

    Attributes:
        random_access: whether `read`, `subset` and `split` work; where they do not, the images can
            only be streamed with `dataset`.

    Example:
        >>> source = keras_ssl.data.digits("train")
        >>> len(source), source.image_shape
        (1437, (8, 8, 1))
        >>> source.read(0).dtype
        tf.uint8
    """

    random_access = True

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
        self._size = size
        self._labels = labels

    def __len__(self) -> int:
        """Returns the number of images."""
        return self._size

    def __repr__(self) -> str:
        """Returns the name, the number of images and of classes."""
        classes = f", {len(self.class_names)} classes" if self.class_names else ""
        return f"<{self.name}: {len(self)} images{classes}>"

    @property
    def labels(self) -> np.ndarray | None:
        """(n,) int64 labels in the order of the images, or `None`."""
        return self._labels

    @property
    def has_labels(self) -> bool:
        """Whether there are labels; reads no file to find out, as `labels` of a stream does."""
        return self.labels is not None

    @abc.abstractmethod
    def read(self, index: tf.Tensor | int) -> tf.Tensor:
        """Returns image number `index`; works eagerly and within graphs.

        Args:
            index: scalar integer, 0 to `len(self) - 1`.

        Returns:
            (height, width, channels) image: uint8, or, from arrays and TFDS sets that hold them,
            uint16 or float32 in [0, 1].

        Raises:
            TypeError: if the source has no random access.
        """

    @property
    def reads_batches(self) -> bool:
        """Whether `read` takes (batch,) numbers too: images in memory are read much faster so."""
        return False

    def label(self, index: tf.Tensor | int) -> tf.Tensor:
        """Returns the label of image number `index`, int64, -1 without; also within graphs.

        Args:
            index: scalar integer, 0 to `len(self) - 1`; or several.
        """
        if self.labels is None:
            return tf.fill(tf.shape(index), tf.constant(-1, tf.int64))
        with tf.device("CPU:0"):
            return tf.gather(self._label_column, index)

    @functools.cached_property
    def _label_column(self) -> tf.Tensor:
        with tf.init_scope():  # a tensor outside of any graph, which every graph can refer to
            return on_cpu(np.asarray(self.labels, np.int64))

    def fingerprint(self) -> str:
        """Returns a SHA-256, in hexadecimal, that other images would not have.

        It reads the number of images, their shape, and every n-th image: sixteen in all.
        """
        digest = hashlib.sha256(f"{len(self)} {self.image_shape}".encode())
        if self.random_access:
            for index in range(0, len(self), -(-len(self) // _SAMPLES)):
                image = self.read(index).numpy()
                digest.update(f"{image.dtype} {image.shape}".encode())
                digest.update(np.ascontiguousarray(image).tobytes())
        return digest.hexdigest()

    def dataset(self) -> tf.data.Dataset:
        """Returns a data set of (image, label int64), one image at a time, in order.

        The label of an image without one is -1.
        """
        indices = tf.data.Dataset.range(len(self))
        return indices.map(lambda index: (self.read(index), self.label(index)), IMAGES)

    def shuffled(
        self,
        seed: int | tf.Tensor,
        buffer_size: int,
        labels: bool = False,
        choose: Callable[[tf.data.Dataset], tf.data.Dataset] = lambda images: images,
    ) -> tf.data.Dataset:
        """Returns a data set of (index int64, image), shuffled within a buffer.

        Each image is drawn at random from the next `buffer_size` that are not drawn yet.

        Args:
            seed: the order; also a scalar int64 tensor, within graphs.
            buffer_size: images that wait to be drawn; none is decoded before.
            labels: make it (index, image, label int64), -1 for an image without a label.
            choose: which of the shuffled images to decode: maps the data set of those that are not
                decoded yet to a part of it, such as `lambda images: images.take(100)`.
        """

        def element(index):
            found = index, self.read(index)
            return (*found, self.label(index)) if labels else found

        indices = tf.data.Dataset.range(len(self))
        indices = choose(shuffled_by(seed, indices, buffer_size))
        return indices.map(element, IMAGES)

    def subset(self, indices: np.ndarray | list[int]) -> "Source":
        """Returns the images of these numbers, in this order.

        Args:
            indices: (m,) integers, 0 to `len(self) - 1`, repeated if wished; or (n,) booleans, as
                `source.labels == 3` gives them.

        Raises:
            TypeError: if `indices` are neither integers nor booleans, or the source is streamed.
            ValueError: if they are empty, of another rank, or out of range.

        Example:
            >>> len(keras_ssl.data.digits("all").subset([3, 1, 4]))
            3
        """
        if not self.random_access:
            raise no_random_access("subset", self.name)
        return Subset(self, indices)

    def split(self, fraction: float = 0.2, seed: int = 0) -> tuple["Source", "Source"]:
        """Divides the images at random into two sources, the same for the same seed.

        With labels, each class is divided in the same proportion. Both parts keep the source's
        order.

        Args:
            fraction: the part of the images that the second source gets, between 0 and 1.
            seed: which of the divisions.

        Returns:
            (train, test), of about `(1 - fraction) * n` and `fraction * n` images.

        Raises:
            TypeError: if the source is streamed.
            ValueError: if `fraction` is out of range, or there are too few images to divide.

        Example:
            >>> train, test = keras_ssl.data.digits("all").split(0.25, seed=1)
            >>> len(train), len(test)
            (1347, 450)
        """
        if not self.random_access:
            raise no_random_access("split", self.name)
        train, test = stratified(len(self), self.labels, fraction, seed, self.name)
        return self.subset(train), self.subset(test)


class Subset(Source):
    """Some images of a source with random access, in a chosen order; see `Source.subset`."""

    def __init__(self, source: Source, indices: np.ndarray | list[int]):
        chosen = _checked_indices(indices, len(source), source.name)
        labels = None if source.labels is None else source.labels[chosen]
        super().__init__(
            f"{source.name} ({len(chosen)} of {len(source)})",
            len(chosen),
            source.image_shape,
            labels,
            source.class_names,
            source.skipped,
        )
        self._source = source
        self._indices = on_cpu(chosen)

    @property
    def reads_batches(self) -> bool:
        """As those of the source that it is a part of."""
        return self._source.reads_batches

    def read(self, index: tf.Tensor | int) -> tf.Tensor:
        """Returns image number `index` of the subset."""
        with tf.device("CPU:0"):
            return self._source.read(tf.gather(self._indices, index))


def shuffled_by(
    seed: int | tf.Tensor, dataset: tf.data.Dataset, buffer_size: int
) -> tf.data.Dataset:
    """Returns a data set shuffled within a buffer, in an order that a graph's seed does not change."""
    if not tf.executing_eagerly():
        # TensorFlow mixes the graph's seed, which is the process's, into that of `shuffle`; and with
        # a process seed of 0 it refuses a seed that is a tensor.
        tf.random.set_seed(1)
    return dataset.shuffle(buffer_size, seed=seed, reshuffle_each_iteration=False)


def on_cpu(values: np.ndarray) -> tf.Tensor:
    """Returns values as a tensor in host memory, where `tf.data` reads them without a copy.

    A function that uses it captures the tensor: the graph holds no second copy.
    """
    with tf.device("CPU:0"):
        return tf.constant(values)


def no_random_access(what: str, name: str) -> TypeError:
    """Returns the error that says why the method `what` is missing from a streamed source."""
    return TypeError(
        f"`{what}` needs a source with random access. Received: {name!r}, which is too large to "
        "hold in memory and is streamed. Slice it by name, such as 'train[:10%]', or raise "
        "`in_memory_limit`."
    )


def _checked_indices(indices: np.ndarray | list[int], size: int, name: str) -> np.ndarray:
    chosen = np.asarray(indices)
    if chosen.ndim != 1 or chosen.size == 0:
        raise ValueError(
            "`indices` must be a list of at least one number. "
            f"Received: shape={chosen.shape} for {name!r}"
        )
    if chosen.dtype == bool:
        if len(chosen) != size or not chosen.any():
            raise ValueError(
                f"Boolean `indices` must have one value per image, {size}, and choose at least "
                f"one. Received: {len(chosen)} values, {chosen.sum()} of them true, for {name!r}"
            )
        return np.flatnonzero(chosen).astype(np.int64)
    if not np.issubdtype(chosen.dtype, np.integer):
        raise TypeError(f"`indices` must be integers or booleans. Received: {chosen.dtype}")
    if chosen.min() < 0 or chosen.max() >= size:
        raise ValueError(
            f"`indices` must lie in 0 to {size - 1}, the images of {name!r}. "
            f"Received: {chosen.min()} to {chosen.max()}"
        )
    return chosen.astype(np.int64)
