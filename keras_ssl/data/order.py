"""The order of the images in each epoch, and the part of it that each worker reads."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import tensorflow as tf

from keras_ssl import distribute
from keras_ssl.data import parallel
from keras_ssl.data.source import Source

_SHUFFLE_BUFFER = 10_000


@dataclass(frozen=True)
class Order:
    """Yields the images of a run in order, starting at a given batch.

    With random access, the order of an epoch is a permutation computed from (seed, epoch). A
    streamed source is shuffled in a buffer with the seed `seed + epoch`. Every worker computes the
    same order and reads its own part of each batch, so together they read the batches that one
    worker would.

    Args:
        batch_size: global batch size.
        steps: batches per epoch.
        seed: seed of the order.
        start: number of the first batch, counted from the start of the run.
        labels: also read the labels.
        clips: read all frames of each clip, instead of images.
    """

    batch_size: int
    steps: int
    seed: int
    start: int
    labels: bool
    clips: bool = False

    def images(
        self,
        source: Source,
        share: distribute.Share,
        endless: bool = False,
        read_size: int | None = None,
    ) -> tf.data.Dataset:
        """Returns a data set of (epoch, index of the image, label, image).

        The label is -1 unless labels are read.

        Args:
            source: the images.
            share: the worker that reads them.
            endless: continue with the next epoch without end; otherwise each pass over the data set
                is one epoch, and the next pass the next epoch.
            read_size: number of images to read at once, for a source that `reads_batches`. Each
                element then has a leading axis of this size. It must divide this worker's part of a
                batch. `None` reads one image at a time.
        """
        first_epoch, skipped = divmod(self.start, self.steps)
        own_batch = self.batch_size // share.workers
        counted = tf.data.Dataset.counter(first_epoch)
        epochs = counted if endless else _one_epoch_per_pass(itertools.count(first_epoch))

        def first_position(epoch):
            return tf.where(epoch == first_epoch, tf.constant(skipped * own_batch, tf.int64), 0)

        if source.random_access:
            images = self._read_permuted(source, share, epochs, first_position, read_size)
        else:
            images = self._read_streamed(source, share, epochs, first_position)
        # If the first pass is shorter than the others, the data set has no fixed length.
        size = self.steps * own_batch // (read_size or 1)
        return images if endless or skipped else assert_length(images, size)

    def _read_permuted(self, source, share, epochs, first_position, read_size):
        own_batch = self.batch_size // share.workers
        last = len(source) - 1
        read = source.read_clip if self.clips else source.read
        none = tf.constant(-1, tf.int64)

        def own_numbers(epoch):
            own = tf.data.Dataset.range(first_position(epoch), self.steps * own_batch)
            if read_size:
                own = own.batch(read_size, drop_remainder=True)
            return own.map(lambda number: (epoch, number))

        def load(epoch, number):
            # From the position among this worker's images to the position among all images.
            batch, place = number // own_batch, number % own_batch
            position = batch * self.batch_size + share.worker * own_batch + place
            key = tf.stack([tf.constant(self.seed, tf.int64), epoch])
            index = tf.random.experimental.index_shuffle(position, key, tf.constant(last, tf.int64))
            label = source.label(index) if self.labels else tf.fill(tf.shape(index), none)
            return tf.fill(tf.shape(index), epoch), index, label, read(index)

        return epochs.flat_map(own_numbers).map(load, num_parallel_calls=parallel.IMAGES)

    def _read_streamed(self, source, share, epochs, first_position):
        own_batch = self.batch_size // share.workers

        def is_own(position, _):
            return (position % self.batch_size) // own_batch == share.worker

        def one_epoch(epoch):
            def own_part(examples):
                examples = examples.take(self.steps * self.batch_size)
                if share.workers > 1:
                    examples = examples.enumerate().filter(is_own).map(lambda _, found: found)
                return examples.skip(first_position(epoch))

            def element(index, image, label=-1):
                return epoch, index, tf.cast(label, tf.int64), image

            seed = self.seed + epoch
            return source.shuffled(seed, _SHUFFLE_BUFFER, self.labels, own_part).map(element)

        return epochs.flat_map(one_epoch)


def unshuffled(images: tf.data.Dataset, labels: bool) -> tf.data.Dataset:
    """Returns a plain data set, in its own order, with the elements that `Order.images` yields.

    Args:
        images: data set of images, or of (image, label).
        labels: keep the labels; otherwise all are -1.
    """

    def element(epoch, number, image, label=-1):
        return epoch, number, tf.cast(label, tf.int64), image

    def image_and_label(image, *rest):
        return (image, tf.ensure_shape(rest[0], ())) if labels else (image,)

    def one_pass(epoch):
        numbered = images.map(image_and_label).enumerate()
        return numbered.map(lambda number, found: element(epoch, number, *found))

    passes = _one_epoch_per_pass(itertools.count()).flat_map(one_pass)
    return assert_length(passes, int(images.cardinality()))


def assert_length(images: tf.data.Dataset, size: int) -> tf.data.Dataset:
    """Restores the cardinality that `flat_map` has lost, so that `fit` knows it.

    Args:
        images: data set.
        size: its cardinality, which may be `tf.data.UNKNOWN_CARDINALITY` or infinite.
    """
    if size == tf.data.UNKNOWN_CARDINALITY:
        return images
    return images.apply(tf.data.experimental.assert_cardinality(size))


def _one_epoch_per_pass(epochs: Iterator[int]) -> tf.data.Dataset:
    """Returns a data set of one element: the number of the next epoch, at each pass over it."""

    def next_epoch(_):
        return tf.ensure_shape(tf.py_function(lambda: next(epochs), [], tf.int64), ())

    return tf.data.Dataset.from_tensors(0).map(next_epoch)
