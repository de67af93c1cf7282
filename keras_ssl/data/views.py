"""From images to pairs of views: the one place where labels are dropped, or kept."""

import random as python_random
from typing import Any

import tensorflow as tf

from keras_ssl import distribute
from keras_ssl.augment import Augmentation, Policy
from keras_ssl.data.making import ViewMaker
from keras_ssl.data.order import Order, as_it_comes
from keras_ssl.data.source import Source


def views(
    source: Source | tf.data.Dataset,
    policy: Policy | Augmentation,
    batch_size: int,
    seed: int | None = None,
    start: int = 0,
    labels: bool = False,
    indices: bool = False,
    finish: str = "host",
) -> tf.data.Dataset:
    """Returns batches of two views of each image.

    Order and pixels are functions, not streams: the images of an epoch are a permutation computed
    from (seed, epoch), and a view from (seed, epoch, number of the image, view). So the n-th batch of
    a seed is the same whatever came before it, and however many threads make it.

    Each pass over the data set is one epoch, the next one from pass to pass, as `fit` needs it. An
    incomplete last batch is left out; its images come in other epochs' batches.

    Under a strategy of several replicas, `fit` lets each worker make its own part of each batch: no
    image is decoded twice, and the replicas together see the batch that one would see. A plain data
    set is read by every worker, which keeps its part.

    Args:
        source: images. A set that is streamed is shuffled within a buffer of 10,000 images. A plain
            `tf.data.Dataset` of images (height, width, channels), or of (image, label), keeps the
            order that it has.
        policy: what makes the views, such as `keras_ssl.augment.simclr(32)`; a single augmentation
            makes one view of each image, as fine-tuning and distillation take it.
        batch_size: images per batch, over all replicas.
        seed: 0 to 2**63 - 1; `None` draws one (`keras.utils.set_random_seed` decides which).
        start: number of the batch to begin with, counted from the run's first: a run that has taken
            `start` steps goes on where it was.
        labels: add the images' labels, -1 for an image without, for a classifier that learns beside
            the method. They are the second component of a plain data set.
        indices: add the images' numbers, their places in the source, for a method that remembers
            something of each image. The number in a plain data set is the place in the pass: if it
            shuffles or repeats its images, a number belongs to no image for good.
        finish: where the views are finished: "host", here; or "step", where the training step makes
            all but the crops on the device that trains, for a host that is too slow for it: `fit`
            does so by itself. The pixels are the same.

    Returns:
        `tf.data.Dataset` of (view_1, view_2), float32 in [0, 1], (batch_size, size, size, channels);
        of (view_1,) for a single augmentation.
        With `indices`, of (view_1, view_2, index), and with `labels`, of (those views, label), as in
        ((view_1, view_2), label); index and label are int64, (batch_size,). With `finish="step"` a
        pair stands for each view: its crop, and the numbers that say what else becomes of it.

    Raises:
        ValueError: if the batch is larger than the source, images of different sizes meet a policy
            that does not begin with a crop, `labels` are asked of a source that has none, or `finish`
            is neither or does not suit the policy.

    Example:
        >>> batches = views(digits("train"), centred(8), batch_size=64, seed=0)
        >>> view_1, view_2 = next(iter(batches))
        >>> view_1.shape
        TensorShape([64, 8, 8, 1])
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1. Received: batch_size={batch_size}")
    if start < 0:
        raise ValueError(f"`start` must not be negative. Received: start={start}")
    if finish not in ("host", "step"):
        raise ValueError(f"`finish` must be 'host' or 'step'. Received: finish={finish!r}")
    if not isinstance(source, Source):
        _check_plain(source.element_spec, labels)
    elif labels and not source.has_labels:
        raise ValueError(f"`labels=True` needs images with labels. Received: {source!r}, without")
    if seed is None:
        seed = python_random.randrange(2**63)
    size = len(source) if isinstance(source, Source) else int(source.cardinality())
    if 0 <= size < batch_size:
        name = source.name if isinstance(source, Source) else "a tf.data.Dataset"
        raise ValueError(
            "`batch_size` must not be larger than the data set: there would be no batch. "
            f"Received: batch_size={batch_size}, and {size} images in {name!r}"
        )
    if not isinstance(source, Source):
        if start:
            raise ValueError(
                "A plain tf.data.Dataset has no known length to find the place of batch `start` in: "
                f"skip its images with `.skip`. Received: start={start}"
            )
        images = as_it_comes(source, labels)
        shape = images.element_spec[3].shape
        make = ViewMaker(policy, shape, seed, labels, indices, size, finish == "step")
        images = distribute.sharded_by_element(images)
        return make.batches(images, batch_size)

    order = Order(batch_size, size // batch_size, seed, start, labels)

    shape = tf.TensorShape(source.image_shape)
    make = ViewMaker(policy, shape, seed, labels, indices, size, finish == "step")

    def batches_of(share: distribute.Share, endless: bool) -> tf.data.Dataset:
        own = batch_size // share.replicas
        in_batches = source.random_access and source.reads_batches and make.takes_batches
        together = own if in_batches else None
        return make.batches(order.images(source, share, endless, together), own, bool(together))

    batches = batches_of(distribute.Share(), endless=False)
    distribute.set_shares(
        batches,
        distribute.Shares(
            batch_size, order.steps, start, seed, lambda share: batches_of(share, endless=True)
        ),
    )
    return batches


def _check_plain(spec: Any, labels: bool) -> None:
    """Raises ValueError unless a plain data set has single images and, if asked for, labels."""
    image, label = (*spec, None)[:2] if isinstance(spec, tuple) else (spec, None)
    shape = getattr(image, "shape", None)
    if shape is None or shape.rank != 3:
        raise ValueError(
            "A tf.data.Dataset must yield single images, (height, width, channels), or pairs of an "
            f"image and a label: unbatch a batched one. Received images of shape {shape}"
        )
    is_one = isinstance(label, tf.TensorSpec) and label.shape.rank in (0, None)
    if labels and not (is_one and label.dtype.is_integer):
        raise ValueError(
            "`labels=True` needs a tf.data.Dataset of pairs, (image, label), whose label is one "
            f"integer. Received: {spec}"
        )
