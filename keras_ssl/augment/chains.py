"""Applies the augmentation chains of all views to batches or single images, with or without XLA.

Both classes give the same results up to rounding. The random numbers of a view depend only on the
image's key.
"""

import functools
import logging
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_ssl.augment import random
from keras_ssl.augment.augmentation import Augmentation

_LOG = logging.getLogger("keras_ssl")
_BLOCK = 32  # max. images per call: they fit into a core's cache and amortize the cost of a call
_BLOCK_PIXELS = 32 * 32 * 32
LARGE_SIDE = 128  # pixels: views of at least this side are made faster one by one than in batches


class Chains:
    """Applies one chain of layers per view, with TensorFlow operations.

    Args:
        chains: one for each view.

    Attributes:
        one_by_one: whether making views one by one, with `view_of_one`, is faster than in batches.
    """

    one_by_one = False

    def __init__(self, chains: Sequence[Augmentation]):
        self.chains = tuple(chains)

    def draw(self, seed: int, epochs: tf.Tensor, indices: tf.Tensor) -> list:
        """Returns, for each view, the random numbers or keys that the other methods need.

        Args:
            seed: seed of the run.
            epochs: scalar or (batch,) int64.
            indices: (batch,) int64 indices of the images in their data set.
        """
        keys = [random.image_keys(seed, epochs, indices, view) for view in range(len(self.chains))]
        return [
            # Drawing all numbers at once is much faster. A layer that overrides `call` needs its key.
            chain.numbers(own) if chain.can_draw_ahead else own
            for chain, own in zip(self.chains, keys, strict=True)
        ]

    def crop_one(self, view: int, image: tf.Tensor, drawn: Any) -> tf.Tensor:
        """Crops one image of any size for a view; a chain without a crop returns the full image."""
        chain = self.chains[view]
        if not chain.begins_with_crop:
            return tf.image.convert_image_dtype(image, tf.float32)
        if chain.can_draw_ahead:
            return chain.layers[0].crop_one(image, drawn[0])
        return chain.crop_one(image, drawn)

    def apply(
        self, view: int, images: tf.Tensor, drawn: Any, first: int = 0, last: int | None = None
    ) -> tf.Tensor:
        """Returns one view of each image of a batch.

        Args:
            view: index of the view.
            images: (batch, height, width, channels).
            drawn: the result of `draw` for this view.
            first: index of the first layer to apply.
            last: index of the layer to stop before; `None` applies all remaining layers.
        """
        chain = self.chains[view]
        function = chain.transform if chain.can_draw_ahead else chain.apply
        return function(images, drawn, first, last)

    def view_of_one(self, view: int, image: tf.Tensor, drawn: Any) -> tf.Tensor:
        """Returns one (height, width, channels) view of one image of any size."""
        crop = self.crop_one(view, image, drawn)
        return self.apply(view, crop[None], drawn, int(self.chains[view].begins_with_crop))[0]


class CompiledChains(Chains):
    """Does the same as `Chains` with functions that XLA compiles for the CPU, several times as fast.

    Compiled code is fastest on data that fits into a core's cache. Small images are therefore augmented
    in blocks of a fixed size, which also makes the result independent of the batch size. In a block,
    every change is computed for every image and discarded for images that are not chosen. Large images
    are augmented one by one, and a change is computed only for the chosen images.

    Args:
        chains: chains that can be compiled, see `can_compile`.
        side: side of the largest view, in pixels.
    """

    def __init__(self, chains: Sequence[Augmentation], side: int):
        super().__init__(chains)
        self.one_by_one = side >= LARGE_SIDE
        self._block = min(_BLOCK, max(1, _BLOCK_PIXELS // side**2))
        self._draw = _compile(super().draw)
        # Views with the same chain share its functions.
        self._batches = {id(chain): _compile(chain.transform) for chain in chains}
        self._ones = {id(chain): _compile(chain.transform_one) for chain in chains}
        self._boxes = {
            id(chain): _compile(chain.layers[0].boxes) for chain in chains if chain.begins_with_crop
        }

    def draw(self, seed, epochs, indices):
        """Returns, for each view, the (batch, draws) random numbers of each layer."""
        return self._draw(tf.constant(seed, tf.int64), epochs, indices)

    def apply(self, view, images, drawn, first=0, last=None):
        """Returns one view of each image of a batch of static shape; see `Chains`."""
        function = self._batches[id(self.chains[view])]
        batch, block = images.shape[0], self._block
        missing = -batch % block
        images, *drawn = (_pad_batch(values, missing) for values in (images, *drawn))
        parts = [
            function(
                images[i : i + block], [values[i : i + block] for values in drawn], first, last
            )
            for i in range(0, batch, block)
        ]
        return tf.concat(parts, axis=0)[:batch]

    def view_of_one(self, view, image, drawn):
        """Returns one view of one image, and skips the layers that do not change it."""
        chain, dtype = self.chains[view], image.dtype
        if chain.begins_with_crop:
            # TensorFlow's resize kernel is faster than XLA's code.
            shape = tf.shape(image)
            box = self._boxes[id(chain)](drawn[0], shape[0], shape[1])[0]
            image = chain.layers[0].resize_region(image, box)
        return self._ones[id(chain)](image, drawn, int(chain.begins_with_crop), dtype)


def can_compile(chains: Sequence[Augmentation]) -> bool:
    """Returns whether the layers of all chains, and this machine, support XLA compilation."""
    return all(chain.layers and chain.can_draw_ahead and _compiles(chain) for chain in chains) and (
        _has_compiler()
    )


def _compiles(chain: Augmentation) -> bool:
    return all(layer.compiles for layer in chain.layers)


@functools.cache
def _has_compiler() -> bool:
    """Returns whether XLA works inside `tf.data` on CPU; some TensorFlow builds lack it."""
    try:
        double = _compile(lambda value: 2 * value)
        options = tf.data.Options()
        options.autotune.enabled = False  # its thread can delay the end by minutes
        doubled = tf.data.Dataset.from_tensors(1).map(double).with_options(options)
        return int(next(iter(doubled))) == 2
    except (tf.errors.OpError, ValueError) as error:
        _LOG.info("Making views without XLA, which is slower: %s", error)
        return False


def _compile(function):
    return tf.function(function, jit_compile=True, autograph=False)


def _pad_batch(values: tf.Tensor, missing: int) -> tf.Tensor:
    if not missing:
        return values
    return tf.pad(values, [(0, missing)] + [(0, 0)] * (values.shape.rank - 1))
