"""The chains of all views, applied to batches and to single images: by TensorFlow, or compiled.

Both classes do the same, to a rounding of the last bits. What they draw for a view depends on the
image's key alone.
"""

import functools
import logging
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_ssl.augment import random
from keras_ssl.augment.augmentation import Augmentation

_LOG = logging.getLogger("keras_ssl")
_BLOCK = 32  # images, at most: what a core's cache holds, and enough to make a call's cost small
_BLOCK_PIXELS = 32 * 32 * 32
LARGE = 128  # pixels of a side of a view, from which on images are better changed one by one


class Chains:
    """One chain of layers for each view, applied by TensorFlow's own operations.

    Args:
        chains: one for each view.

    Attributes:
        one_by_one: whether views are made one by one, by `view_of_one`, which a batch is slower than.
    """

    one_by_one = False

    def __init__(self, chains: Sequence[Augmentation]):
        self.chains = tuple(chains)

    def draw(self, seed: int, epochs: tf.Tensor, indices: tf.Tensor) -> list:
        """Returns for each view what decides about it, for the other functions.

        Args:
            seed: of the run.
            epochs: scalar or (batch,) int64.
            indices: (batch,) int64 numbers of the images in their data set.
        """
        keys = [random.image_keys(seed, epochs, indices, view) for view in range(len(self.chains))]
        return [
            # Drawn together they cost a fraction. A layer with a `call` of its own wants its key.
            chain.numbers(own) if chain.by_numbers else own
            for chain, own in zip(self.chains, keys, strict=True)
        ]

    def crop_one(self, view: int, image: tf.Tensor, drawn: Any) -> tf.Tensor:
        """Returns a view's crop of one image of any size; the image, of a chain without a crop."""
        chain = self.chains[view]
        if not chain.begins_with_crop:
            return tf.image.convert_image_dtype(image, tf.float32)
        if chain.by_numbers:
            return chain.layers[0].crop_one(image, drawn[0])
        return chain.crop_one(image, drawn)

    def apply(
        self, view: int, images: tf.Tensor, drawn: Any, first: int = 0, last: int | None = None
    ) -> tf.Tensor:
        """Returns one view of each image of a batch.

        Args:
            view: which of the views.
            images: (batch, height, width, channels).
            drawn: what `draw` has returned for this view.
            first: number of the first layer to apply.
            last: number of the layer to stop before; `None` applies all.
        """
        chain = self.chains[view]
        return (chain.transform if chain.by_numbers else chain.apply)(images, drawn, first, last)

    def view_of_one(self, view: int, image: tf.Tensor, drawn: Any) -> tf.Tensor:
        """Returns one view, (height, width, channels), of one image of any size."""
        crop = self.crop_one(view, image, drawn)
        return self.apply(view, crop[None], drawn, int(self.chains[view].begins_with_crop))[0]


class CompiledChains(Chains):
    """The same, as functions that XLA compiles for the processor, several times as fast.

    Compiled code is fastest on pieces that stay in a core's cache. Small images are changed in blocks
    of a fixed number, so that a view has the same bits whatever the batch is; there each image takes
    part in each change, without an effect where it is not chosen. Of large images, which are changed
    one by one, only those that are chosen cost anything.

    Args:
        chains: of layers that compile, see `can_compile`.
        side: that of the largest view, in pixels.
    """

    def __init__(self, chains: Sequence[Augmentation], side: int):
        super().__init__(chains)
        self.one_by_one = side >= LARGE
        self._block = min(_BLOCK, max(1, _BLOCK_PIXELS // side**2))
        self._draw = _compiled(super().draw)
        # Views that have a chain in common share its functions.
        self._batches = {id(chain): _compiled(chain.transform) for chain in chains}
        self._ones = {id(chain): _compiled(chain.transform_one) for chain in chains}
        self._boxes = {
            id(chain): _compiled(chain.layers[0].boxes)
            for chain in chains
            if chain.begins_with_crop
        }

    def draw(self, seed, epochs, indices):
        """Returns for each view the numbers of each of its layers, (batch, draws)."""
        return self._draw(tf.constant(seed, tf.int64), epochs, indices)

    def apply(self, view, images, drawn, first=0, last=None):
        """Returns one view of each image of a batch, whose shape is known; see `Chains`."""
        function = self._batches[id(self.chains[view])]
        batch, block = images.shape[0], self._block
        missing = -batch % block
        images, *drawn = (_padded(values, missing) for values in (images, *drawn))
        parts = [
            function(
                images[i : i + block], [values[i : i + block] for values in drawn], first, last
            )
            for i in range(0, batch, block)
        ]
        return tf.concat(parts, axis=0)[:batch]

    def view_of_one(self, view, image, drawn):
        """Returns one view of one image, whose layers cost nothing where it is not chosen."""
        chain, dtype = self.chains[view], image.dtype
        if chain.begins_with_crop:
            # TensorFlow's kernel resizes faster than what XLA makes of it.
            shape = tf.shape(image)
            box = self._boxes[id(chain)](drawn[0], shape[0], shape[1])[0]
            image = chain.layers[0].resized_part(image, box)
        return self._ones[id(chain)](image, drawn, int(chain.begins_with_crop), dtype)


def can_compile(chains: Sequence[Augmentation]) -> bool:
    """Whether all layers of some chains, and this machine, allow it."""
    return all(chain.layers and chain.by_numbers and _compile(chain) for chain in chains) and (
        _has_compiler()
    )


def _compile(chain: Augmentation) -> bool:
    return all(layer.compiles for layer in chain.layers)


@functools.cache
def _has_compiler() -> bool:
    """Whether XLA compiles for the processor within `tf.data`: some builds of TensorFlow lack it."""
    try:
        double = _compiled(lambda value: 2 * value)
        return int(next(iter(tf.data.Dataset.from_tensors(1).map(double)))) == 2
    except (tf.errors.OpError, ValueError) as error:
        _LOG.info("Views are made without XLA, which is slower: %s", error)
        return False


def _compiled(function):
    return tf.function(function, jit_compile=True, autograph=False)


def _padded(values: tf.Tensor, missing: int) -> tf.Tensor:
    if not missing:
        return values
    return tf.pad(values, [(0, missing)] + [(0, 0)] * (values.shape.rank - 1))
