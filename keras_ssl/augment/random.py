"""Random numbers as a function of a key: equal on all devices, in any order, with any sharding.

A key is two 32-bit words. Each image has one key per view and epoch (`image_keys`), and all random
numbers of its augmentation are computed from it. TensorFlow's stateless generators take one key for an
entire tensor. Here each row has its own key, at the cost of a few integer operations.

The generator is Threefry-2x32 with 20 rounds.

Source: Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3".
"""

from collections.abc import Sequence

import tensorflow as tf

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA

METHOD = 0xFFFFFFFF
"""Number of the keys, among the views, from which a method draws its own random numbers."""


@tf.function(autograph=False)  # halves the time to build graphs with many calls
def threefry(key: tuple, counter: tuple) -> tuple[tf.Tensor, tf.Tensor]:
    """Maps a two-word key and a two-word counter to two random words.

    Args:
        key: pair of uint32 tensors.
        counter: pair of uint32 tensors that broadcast against `key`.

    Returns:
        A pair of uint32 tensors of the broadcast shape.
    """
    schedule = (*key, key[0] ^ key[1] ^ tf.constant(_PARITY, tf.uint32))
    x_0, x_1 = counter[0] + schedule[0], counter[1] + schedule[1]
    for group in range(1, 6):
        for rotation in _ROTATIONS[(group - 1) % 2]:
            x_0 = x_0 + x_1
            x_1 = _rotate_left(x_1, rotation) ^ x_0
        x_0 = x_0 + schedule[group % 3]
        x_1 = x_1 + schedule[(group + 1) % 3] + tf.constant(group, tf.uint32)
    return x_0, x_1


def _rotate_left(words: tf.Tensor, bits: int) -> tf.Tensor:
    left = tf.bitwise.left_shift(words, tf.constant(bits, tf.uint32))
    return left | tf.bitwise.right_shift(words, tf.constant(32 - bits, tf.uint32))


def image_keys(seed, epoch, indices, view: int) -> tf.Tensor:
    """Returns the keys of a batch of images in one view of one epoch.

    Args:
        seed: integer from 0 to 2**63 - 1, a Python integer or a scalar tensor.
        epoch: integer from 0 to 2**63 - 1, a Python integer or a tensor.
        indices: (batch,) int64 indices of the images in their data set.
        view: 0 for the first view, 1 for the second, ...; `METHOD` for the method's own draws.

    Returns:
        (batch, 2) uint32 keys.
    """
    run = threefry(_words(seed), _words(epoch))
    this_view = threefry(run, (tf.constant(view, tf.uint32), tf.constant(0, tf.uint32)))
    return tf.stack(threefry(this_view, _words(indices)), axis=-1)


def fold(keys: tf.Tensor, number: int) -> tf.Tensor:
    """Derives (batch, 2) uint32 keys, independent of `keys` and of those for other numbers."""
    counter = (tf.constant(number, tf.uint32), tf.constant(0xFFFFFFFF, tf.uint32))
    return tf.stack(threefry((keys[..., 0], keys[..., 1]), counter), axis=-1)


def uniform(keys: tf.Tensor, count: int) -> tf.Tensor:
    """Returns (batch, count) float32 numbers, uniform in [0, 1), one row per key.

    Args:
        keys: (batch, 2) uint32 keys.
        count: how many numbers each image needs, at least 1.
    """
    blocks = (count + 1) // 2  # one block of the generator gives two words
    counter = (tf.cast(tf.range(blocks), tf.uint32), tf.zeros(blocks, tf.uint32))
    words = tf.concat(threefry((keys[:, :1], keys[:, 1:]), counter), axis=-1)  # (batch, 2 * blocks)
    return _to_float(words[:, :count])


def numbers_of_layers(keys: tf.Tensor, draws: Sequence[int]) -> list[tf.Tensor]:
    """Returns the numbers of all layers of a chain: `uniform(fold(keys, p), draws[p])` for each p.

    It calls the generator twice in total, instead of twice per layer.

    Args:
        keys: (batch, 2) uint32 keys.
        draws: how many numbers each layer needs; a layer that needs none gets a (batch, 0) tensor.
    """
    blocks = [(count + 1) // 2 for count in draws]
    positions = tf.cast(tf.range(len(draws)), tf.uint32)
    words = (keys[:, :1], keys[:, 1:])
    folded = threefry(words, (positions, tf.fill([len(draws)], tf.constant(0xFFFFFFFF, tf.uint32))))
    counter = tf.cast(tf.range(max(blocks, default=0)), tf.uint32)
    # Two words per block, each of shape (batch, layers, blocks).
    words = threefry(tuple(word[..., None] for word in folded), (counter, tf.zeros_like(counter)))
    return [
        _to_float(
            tf.concat([word[:, position, : blocks[position]] for word in words], -1)[:, :count]
        )
        for position, count in enumerate(draws)
    ]


def _to_float(words: tf.Tensor) -> tf.Tensor:
    # With more than 24 bits, a float32 in [0, 1) could round up to 1.
    bits = tf.bitwise.right_shift(words, tf.constant(8, tf.uint32))
    return tf.cast(tf.cast(bits, tf.int32), tf.float32) * 2.0**-24


def _words(number) -> tuple[tf.Tensor, tf.Tensor]:
    number = tf.cast(number, tf.int64)
    return tf.cast(number & 0xFFFFFFFF, tf.uint32), tf.cast(
        tf.bitwise.right_shift(number, tf.constant(32, tf.int64)), tf.uint32
    )
