"""Which image comes when: the order of each epoch, and the part of it that one worker reads."""

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
    """The images of a run, batch after batch, from the one it begins with.

    An epoch's order is a permutation computed from (seed, epoch), or, for a set that is streamed, what
    a buffer makes of it. Every worker computes the same order and takes its own places of each batch:
    together they read what one would.

    Args:
        batch_size: images per batch, over all replicas.
        steps: batches of an epoch.
        seed: of the order.
        start: number of the batch to begin with, counted from the run's first.
        labels: read the labels too.
    """

    batch_size: int
    steps: int
    seed: int
    start: int
    labels: bool

    def images(
        self,
        source: Source,
        share: distribute.Share,
        endless: bool = False,
        together: int | None = None,
    ) -> tf.data.Dataset:
        """Returns a data set of (epoch, number of the image, label, image), one image at a time.

        Label is -1 unless labels are read.

        Args:
            source: the images.
            share: the worker that reads them.
            endless: go on from epoch to epoch; otherwise each pass is the next epoch.
            together: read so many images at once, of a source that `reads_batches`: all four have one
                axis more. It divides this worker's part of a batch.
        """
        first_epoch, skipped = divmod(self.start, self.steps)
        own_batch = self.batch_size // share.workers
        counted = tf.data.Dataset.counter(first_epoch)
        epochs = counted if endless else _pass_by_pass(itertools.count(first_epoch))

        def begin(epoch):
            return tf.where(epoch == first_epoch, tf.constant(skipped * own_batch, tf.int64), 0)

        if source.random_access:
            images = self._permuted(source, share, epochs, begin, together)
        else:
            images = self._streamed(source, share, epochs, begin)
        # A first pass that is shorter than the others leaves the length unknown.
        size = self.steps * own_batch // (together or 1)
        return images if endless or skipped else of_length(images, size)

    def _permuted(self, source, share, epochs, begin, together):
        own_batch = self.batch_size // share.workers
        last = len(source) - 1
        none = tf.constant(-1, tf.int64)

        def numbers(epoch):
            own = tf.data.Dataset.range(begin(epoch), self.steps * own_batch)
            if together:
                own = own.batch(together, drop_remainder=True)
            return own.map(lambda number: (epoch, number))

        def load(epoch, number):
            # Number of an image among this worker's, and its position among those of all.
            batch, place = number // own_batch, number % own_batch
            position = batch * self.batch_size + share.worker * own_batch + place
            key = tf.stack([tf.constant(self.seed, tf.int64), epoch])
            index = tf.random.experimental.index_shuffle(position, key, tf.constant(last, tf.int64))
            label = source.label(index) if self.labels else tf.fill(tf.shape(index), none)
            return tf.fill(tf.shape(index), epoch), index, label, source.read(index)

        return epochs.flat_map(numbers).map(load, num_parallel_calls=parallel.IMAGES)

    def _streamed(self, source, share, epochs, begin):
        own_batch = self.batch_size // share.workers

        def is_own(position, _):
            return (position % self.batch_size) // own_batch == share.worker

        def one_epoch(epoch):
            def own_part(examples):
                examples = examples.take(self.steps * self.batch_size)
                if share.workers > 1:
                    examples = examples.enumerate().filter(is_own).map(lambda _, found: found)
                return examples.skip(begin(epoch))

            def element(index, image, label=-1):
                return epoch, index, tf.cast(label, tf.int64), image

            seed = self.seed + epoch
            return source.shuffled(seed, _SHUFFLE_BUFFER, self.labels, own_part).map(element)

        return epochs.flat_map(one_epoch)


def as_it_comes(images: tf.data.Dataset, labels: bool) -> tf.data.Dataset:
    """Returns a plain data set of images, or of (image, label), as `Order.images` returns a source."""

    def element(epoch, number, image, label=-1):
        return epoch, number, tf.cast(label, tf.int64), image

    def image_and_label(image, *rest):
        return (image, tf.ensure_shape(rest[0], ())) if labels else (image,)

    def one_pass(epoch):
        numbered = images.map(image_and_label).enumerate()
        return numbered.map(lambda number, found: element(epoch, number, *found))

    return of_length(_pass_by_pass(itertools.count()).flat_map(one_pass), int(images.cardinality()))


def of_length(images: tf.data.Dataset, size: int) -> tf.data.Dataset:
    """Tells `fit` the length, which `flat_map` has lost; negative ones are unknown or without end."""
    if size == tf.data.UNKNOWN_CARDINALITY:
        return images
    return images.apply(tf.data.experimental.assert_cardinality(size))


def _pass_by_pass(epochs: Iterator[int]) -> tf.data.Dataset:
    """Returns a data set of one element, the next epoch's number in each pass over it."""

    def next_epoch(_):
        return tf.ensure_shape(tf.py_function(lambda: next(epochs), [], tf.int64), ())

    return tf.data.Dataset.from_tensors(0).map(next_epoch)
