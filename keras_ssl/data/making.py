"""From images to batches of their views."""

import tensorflow as tf

from keras_ssl.augment import Augmentation, Policy
from keras_ssl.augment.chains import LARGE, Chains, CompiledChains, can_compile
from keras_ssl.augment.finish import Finish, cropped, set_finish
from keras_ssl.data import parallel

# Pixels of one view of all images from which on compiling pays: it costs some seconds, which an epoch
# of a smaller set does not take.
WORTH_COMPILING = 2**24


class ViewMaker:
    """Makes batches of views out of a data set of (epoch, number of the image, label, image).

    Small images of one size are augmented as a batch from the start; others are cropped one by one
    first, and where that is faster changed one by one too. All views come out of one decoded image.

    Args:
        policy: what makes the views.
        shape: (height, width, channels) of an image; height and width may be unknown.
        seed: of the views.
        labels: keep the labels.
        indices: keep the numbers of the images.
        size: number of images; negative if unknown or without end.
        in_step: leave all but the crops to the training step, see `keras_ssl.augment.finish`.

    Attributes:
        takes_batches: whether images can come in batches already.

    Raises:
        ValueError: if images of different sizes meet a policy that does not begin with a crop, or a
            layer cannot be left to the step.
    """

    def __init__(
        self,
        policy: Policy | Augmentation,
        shape: tf.TensorShape,
        seed: int,
        labels: bool,
        indices: bool,
        size: int,
        in_step: bool = False,
    ):
        chains = (policy,) if isinstance(policy, Augmentation) else tuple(policy)
        self.seed = seed
        self.labels = labels
        self.indices = indices
        self.in_step = in_step
        of_one_size = shape.is_fully_defined()
        if not of_one_size and not all(chain.begins_with_crop for chain in chains):
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
        # Large views are always cropped in the same way: that of batches rounds otherwise.
        self.takes_batches = of_one_size and side < LARGE
        if in_step and not all(chain.by_numbers for chain in chains):
            raise ValueError(
                "`finish='step'` needs layers that define `transform` or `change`, not `call`. "
                f"Received: the policy {policy}"
            )

    def batches(
        self, images: tf.data.Dataset, batch_size: int, batched: bool = False
    ) -> tf.data.Dataset:
        """Returns the data set of batches.

        Args:
            images: what `Order.images` returns.
            batch_size: images per batch.
            batched: `images` come in batches already.
        """
        if not self.takes_batches:
            images = images.map(self._one, num_parallel_calls=parallel.IMAGES)
        if not batched:
            images = images.batch(batch_size, drop_remainder=True)
        batches = images.map(self._whole, num_parallel_calls=parallel.BATCHES)
        batches = parallel.with_threads(batches.prefetch(parallel.READY))
        if self.in_step:
            set_finish(batches, Finish(self.chains.chains, self.labels))
        return batches

    def _one(self, epoch, number, label, image):
        """Crops one image for each view, or makes the whole of each view."""
        drawn = self.chains.draw(self.seed, epoch, number[None])
        make = self.chains.view_of_one if self.one_by_one else self.chains.crop_one
        return epoch, number, label, *(make(i, image, own) for i, own in enumerate(drawn))

    def _whole(self, epochs, numbers, labels, *views):
        """Finishes the views of a batch, and adds what belongs to it."""
        if not self.one_by_one:
            drawn = self.chains.draw(self.seed, epochs, numbers)
            images = views * len(drawn) if self.takes_batches else views
            views = tuple(map(self._finished, range(len(drawn)), images, drawn))
        batch = (*views, numbers) if self.indices else views
        return (batch, labels) if self.labels else batch

    def _finished(self, view, images, drawn):
        """Returns one view of a batch of images, or of crops; or what begins a view."""
        last = cropped(self.chains.chains[view])
        first = 0 if self.takes_batches else last
        if not self.in_step:
            return self.chains.apply(view, images, drawn, first)
        if first < last:
            images = self.chains.apply(view, images, drawn, first, last)
        # What decides about the further layers, without a layer's border: a batch has few parts.
        further = drawn[last:] or [tf.zeros((images.shape[0], 0))]
        return images, tf.concat(further, axis=1)
