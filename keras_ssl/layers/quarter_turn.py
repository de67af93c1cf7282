"""Exact turns of images by multiples of 90 degrees, without interpolation."""

import tensorflow as tf


def quarter_turn(images: tf.Tensor, turns: int) -> tf.Tensor:
    """Turns images counterclockwise by multiples of 90 degrees; pixels are only moved.

    Args:
        images: (batch, height, width, channels) tensor of any type.
        turns: number of quarter turns, any integer; negative numbers turn clockwise.

    Returns:
        The turned images, (batch, height, width, channels), or (batch, width, height, channels) after
        an odd number of turns.

    Example:
        >>> quarter_turn(tf.reshape(tf.range(4), (1, 2, 2, 1)), 1)[0, :, :, 0].numpy().tolist()
        [[1, 3], [0, 2]]

    Source: the same as `numpy.rot90(images, turns, axes=(1, 2))`.
    """
    turns %= 4
    if turns % 2:
        images = tf.transpose(images, (0, 2, 1, 3))
    reversed_axes = {0: [], 1: [1], 2: [1, 2], 3: [2]}[turns]
    return tf.reverse(images, reversed_axes) if reversed_axes else images
