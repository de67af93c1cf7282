"""The data pipeline: batches of augmented views, with or without labels."""

import random as python_random
from typing import Any

import tensorflow as tf

from keras_ssl import distribute
from keras_ssl.augment import Augmentation, Policy
from keras_ssl.data.order import Order, unshuffled
from keras_ssl.data.source import Source
from keras_ssl.data.view_maker import ViewMaker


def views(
    source: Source | tf.data.Dataset,
    policy: Policy | Augmentation | tuple[Augmentation, ...],
    batch_size: int,
    seed: int | None = None,
    start: int = 0,
    labels: bool = False,
    indices: bool = False,
    finish: str = "host",
    keys: bool = False,
    clips: bool = False,
) -> tf.data.Dataset:
    """Returns batches of views of each image.

    Each pass over the data set is the next epoch. An incomplete last batch is dropped; its images
    appear in the batches of other epochs.

    The order of an epoch is a permutation computed from (seed, epoch), and a view is computed from
    (seed, epoch, index of the image, number of the view). The n-th batch of a seed is therefore
    always the same, after a resume and with any number of threads.

    Under a strategy with several workers, each worker makes only its part of each batch. No image
    is decoded twice, and the global batch is the same as on one device. A plain `tf.data.Dataset`
    is read completely by every worker, which then keeps its part.

    Args:
        source: images. A streamed source is shuffled in a buffer of 10,000 images. A plain
            `tf.data.Dataset` of images (height, width, channels), or of (image, label), is not
            shuffled.
        policy: the augmentations, such as `keras_ssl.augment.simclr(32)`, one per view. A single
            augmentation makes one view per image, for pretext tasks, fine-tuning and distillation; a
            tuple, such as `keras_ssl.augment.multi_crop(224, 96)`, any number, also of different sizes.
        batch_size: global batch size.
        seed: 0 to 2**63 - 1; `None` draws one, which `keras.utils.set_random_seed` makes
            reproducible.
        start: number of the first batch, counted from the start of the run. A run resumes after
            `start` steps.
        labels: also return labels, -1 for an image without one; for example to train a linear probe
            alongside the method. In a plain `tf.data.Dataset` they are the second component.
        indices: also return the index of each image in the source, for methods that store something
            per image. In a plain `tf.data.Dataset` it is the position within the pass, which
            identifies an image only if the data set does not shuffle or repeat.
        finish: "host" makes the views in the data pipeline. "step" only crops there, and `fit`
            makes the rest in the training step, on the accelerator: use it if the host is too slow.
            The pixels are the same.
        keys: also return a random key of each image, for methods that draw masks, noise or
            permutations in the training step: `keras_ssl.augment.random.uniform(keys, count)`. A key
            depends on (seed, epoch, index of the image) only, and no view uses it.
        clips: return a view of each frame of each clip, in their order, for methods that learn from
            videos. The source must be one of clips, such as `keras_ssl.data.clips(folder)`, and the
            policy a single augmentation: all frames of a clip get the same crop and the same changes.
            Without it, a source of clips consists of their first frames.

    Returns:
        `tf.data.Dataset` of (view_1, view_2), each float32 in [0, 1] with the shape (batch_size,
        size, size, channels); of (view_1,) for a single augmentation. With `indices`, of (view_1,
        view_2, index). With `keys`, a key, (batch_size, 2) uint32, follows the views and the index.
        With `labels`, of ((view_1, view_2), label). Indices and labels are int64, (batch_size,).
        With `clips`, of (frame_1, frame_2, ...). With `finish="step"`, each view is a pair instead: its
        crop, and the random numbers for the remaining layers.

    Raises:
        ValueError: if `batch_size` exceeds the number of images, images have different sizes and
            the policy does not start with a crop, `labels=True` and the source has no labels,
            `clips=True` and the source has no clips or the policy makes several views, or `finish` is
            unknown or does not support the policy.

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
        raise ValueError(
            f"`labels=True` needs images with labels. Received: {source!r}, without labels"
        )
    if clips:
        _check_clips(source, policy)
    if seed is None:
        seed = python_random.randrange(2**63)
    size = len(source) if isinstance(source, Source) else int(source.cardinality())
    if 0 <= size < batch_size:
        name = source.name if isinstance(source, Source) else "a tf.data.Dataset"
        raise ValueError(
            "`batch_size` must not be larger than the data set. "
            f"Received: batch_size={batch_size}, and {size} images in {name!r}"
        )
    if not isinstance(source, Source):
        if start:
            raise ValueError(
                "`start` must be 0 for a plain tf.data.Dataset. Use its `.skip` method instead. "
                f"Received: start={start}"
            )
        images = unshuffled(source, labels)
        shape = images.element_spec[3].shape
        make = ViewMaker(policy, shape, seed, labels, indices, size, finish == "step", keys)
        images = distribute.shard_by_element(images)
        return make.batches(images, batch_size)

    order = Order(batch_size, size // batch_size, seed, start, labels, clips)

    shape = tf.TensorShape(source.image_shape)
    frames = source.clip_length if clips else None
    make = ViewMaker(policy, shape, seed, labels, indices, size, finish == "step", keys, frames)

    def batches_of(share: distribute.Share, endless: bool) -> tf.data.Dataset:
        per_replica = batch_size // share.replicas
        in_batches = source.random_access and source.reads_batches and make.takes_batches
        images = order.images(source, share, endless, per_replica if in_batches else None)
        return make.batches(images, per_replica, in_batches)

    batches = batches_of(distribute.Share(), endless=False)
    distribute.set_shares(
        batches,
        distribute.Shares(
            batch_size, order.steps, start, seed, lambda share: batches_of(share, endless=True)
        ),
    )
    return batches


def _check_clips(source: Any, policy: Any) -> None:
    """Raises ValueError unless a source has clips and a policy makes one view."""
    if getattr(source, "clip_length", None) is None:
        raise ValueError(
            "`clips=True` needs a source of clips: keras_ssl.data.clips(folder of videos), or "
            f"keras_ssl.data.clip_arrays(array). Received: {source!r}"
        )
    if not isinstance(policy, Augmentation):
        raise ValueError(
            "`clips=True` needs a single augmentation, which all frames of a clip share, such as "
            f"keras_ssl.augment.crop_and_flip(size). Received: the policy {policy}"
        )


def _check_plain(spec: Any, labels: bool) -> None:
    """Raises ValueError unless a plain data set has single images and, if wanted, labels."""
    image, label = (*spec, None)[:2] if isinstance(spec, tuple) else (spec, None)
    shape = getattr(image, "shape", None)
    if shape is None or shape.rank != 3:
        raise ValueError(
            "A tf.data.Dataset must yield single images, (height, width, channels), or (image, label) "
            f"pairs. Call `.unbatch()` on a batched one. Received: images of shape {shape}"
        )
    is_scalar = isinstance(label, tf.TensorSpec) and label.shape.rank in (0, None)
    if labels and not (is_scalar and label.dtype.is_integer):
        raise ValueError(
            "`labels=True` needs a tf.data.Dataset of (image, label) pairs, whose label is one "
            f"integer. Received: {spec}"
        )
