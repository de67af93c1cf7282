"""Turns a data set of images into batches of views."""

import tensorflow as tf

from keras_ssl.augment import Augmentation, Policy, random
from keras_ssl.augment.chains import LARGE_SIDE, Chains, CompiledChains, can_compile
from keras_ssl.augment.finish import Finish, count_host_layers, set_finish
from keras_ssl.data import parallel

# Pixels of one view of all images from which on compiling is worth its cost of some seconds. An
# epoch of a smaller data set takes less time than that.
WORTH_COMPILING = 2**24


class ViewMaker:
    """Makes batches of views from a data set of (epoch, index of the image, label, image).

    If images have equal sizes and views are small, entire batches are augmented. Otherwise images
    are cropped one by one, and, where that is faster, augmented one by one too. Each image is
    decoded once for all its views.

    Of clips, each frame becomes a view. All frames of a clip are augmented with the same random
    numbers, so that they get the same crop.

    Args:
        policy: the augmentations that make the views.
        shape: (height, width, channels) of an image; height and width may be unknown.
        seed: seed of the augmentations.
        labels: return labels with the views.
        indices: return the indices of the images with the views.
        keys: return a random key of each image with the views.
        size: number of images; negative if unknown or infinite.
        in_step: only crop, and let the training step finish the views; see
            `keras_ssl.augment.finish`.
        frames: number of frames, if the images are clips, (frames, height, width, channels); the policy
            is then a single augmentation. `None` for images.

    Attributes:
        takes_batches: whether the images may be batched already.

    Raises:
        ValueError: if images have different sizes and a view does not start with a crop, or the
            training step cannot finish the views.
    """

    def __init__(
        self,
        policy: Policy | Augmentation | tuple[Augmentation, ...],
        shape: tf.TensorShape,
        seed: int,
        labels: bool,
        indices: bool,
        size: int,
        in_step: bool = False,
        keys: bool = False,
        frames: int | None = None,
    ):
        chains = (policy,) if isinstance(policy, Augmentation) else tuple(policy)
        self.seed = seed
        self.labels = labels
        self.indices = indices
        self.keys = keys
        self.in_step = in_step
        self.frames = frames
        has_one_size = shape.is_fully_defined()
        if not has_one_size and not all(chain.begins_with_crop for chain in chains):
            raise ValueError(
                "Images of different sizes need a policy whose first layer is a RandomCrop. "
                f"Received: images of shape {shape}, and the policy {policy}"
            )
        side = max(chain.size_of_view(shape) for chain in chains)
        pays = size < 0 or size * side**2 >= WORTH_COMPILING
        self.chains = (
            CompiledChains(chains, side) if pays and can_compile(chains) else Chains(chains)
        )
        self.one_by_one = self.chains.one_by_one and not in_step
        # Large views are always cropped one by one. Cropping a batch rounds differently, and pixels
        # must not depend on how views are made.
        # So are the frames of clips: a batch of whole frames would need much memory.
        self.takes_batches = has_one_size and side < LARGE_SIDE and frames is None
        if in_step and not all(chain.can_draw_ahead for chain in chains):
            raise ValueError(
                "`finish='step'` needs layers that define `transform` or `change`, not `call`. "
                f"Received: the policy {policy}"
            )

    def batches(
        self, images: tf.data.Dataset, batch_size: int, batched: bool = False
    ) -> tf.data.Dataset:
        """Returns the data set of batches.

        Args:
            images: data set from `Order.images`.
            batch_size: images per batch.
            batched: whether `images` is already batched.
        """
        if not self.takes_batches:
            images = images.map(self._crop_image, num_parallel_calls=parallel.IMAGES)
        if not batched:
            images = images.batch(batch_size, drop_remainder=True)
        batches = images.map(self._make_batch, num_parallel_calls=parallel.BATCHES)
        batches = parallel.with_threads(batches.prefetch(parallel.READY))
        if self.in_step:
            set_finish(batches, Finish(self.chains.chains * (self.frames or 1), self.labels))
        return batches

    def _crop_image(self, epoch, number, label, image):
        """Crops one image once per view; with `one_by_one`, makes the complete views."""
        drawn = self._draw(epoch, number[None])
        make = self.chains.view_of_one if self.one_by_one else self.chains.crop_one
        images = len(drawn) * [image] if self.frames is None else tf.unstack(image, self.frames)
        views = zip(images, drawn, strict=True)
        made = (make(self._chain_of(i), each, own) for i, (each, own) in enumerate(views))
        return epoch, number, label, *made

    def _make_batch(self, epochs, numbers, labels, *views):
        """Makes the views of a batch, and adds indices, keys and labels if they are wanted."""
        if not self.one_by_one:
            drawn = self._draw(epochs, numbers)
            images = views * len(drawn) if self.takes_batches else views
            views = tuple(map(self._make_view, range(len(drawn)), images, drawn))
        batch = (*views, numbers) if self.indices else views
        if self.keys:
            batch = (*batch, random.image_keys(self.seed, epochs, numbers, random.METHOD))
        return (batch, labels) if self.labels else batch

    def _make_view(self, view, images, drawn):
        """Returns view number `view` of a batch of images or crops.

        With `in_step`, returns the crops and the random numbers for the remaining layers instead.
        """
        view = self._chain_of(view)
        last = count_host_layers(self.chains.chains[view])
        first = 0 if self.takes_batches else last
        if not self.in_step:
            return self.chains.apply(view, images, drawn, first)
        if first < last:
            images = self.chains.apply(view, images, drawn, first, last)
        # One tensor for all remaining layers, so that a batch has few components.
        further = drawn[last:] or [tf.zeros((images.shape[0], 0))]
        return images, tf.concat(further, axis=1)

    def _draw(self, epochs, numbers) -> list:
        """Returns the random numbers or keys of each view; all frames of a clip share them."""
        return list(self.chains.draw(self.seed, epochs, numbers)) * (self.frames or 1)

    def _chain_of(self, view: int) -> int:
        """Returns which augmentation makes a view: one for all frames of a clip."""
        return view if self.frames is None else 0
