"""Colour distortion: jitter of brightness, contrast, saturation and hue, and grey-scale."""

import functools

import keras
import tensorflow as tf

from keras_ssl.augment.layer import RandomChange, between, checked_probability

_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)


@keras.saving.register_keras_serializable(package="keras_ssl")
class ColorJitter(RandomChange):
    """Changes brightness, contrast, saturation and hue, in an order of each image's own.

    Pixels are clipped to [0, 1] after each of the four. Brightness, contrast and saturation are
    multiplied by a factor uniform in [max(0, 1 - s), 1 + s], hue is turned by a part uniform in
    [-s, s] of the full circle. Brightness multiplies, as in version 2 of the reference code (version
    1 adds); contrast stretches each channel about the image's mean of that channel; saturation is
    HSV's. Images without three channels get brightness and contrast only.

    Args:
        brightness: strength s, 0 or more.
        contrast: likewise.
        saturation: likewise.
        hue: strength in [0, 0.5].
        probability: share of the images that are changed at all.
        seed: see `AugmentationLayer`, as for the call's arguments.

    Raises:
        ValueError: if a strength or the probability is out of range.

    Example:
        >>> ColorJitter(0.8, 0.8, 0.8, 0.2)(np.ones((4, 8, 8, 3), "float32")).shape
        TensorShape([4, 8, 8, 3])

    Source: Chen et al. 2020 (SimCLR), appendix A; `data_util.py` of google-research/simclr.
    """

    draws = 9  # whether to act, four strengths, four sort keys for the order

    def __init__(
        self,
        brightness: float,
        contrast: float,
        saturation: float,
        hue: float,
        probability: float = 0.8,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(seed=seed, **kwargs)
        strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        for name, value in strengths.items():
            if value < 0:
                raise ValueError(f"`{name}` must not be negative. Received: {name}={value}")
        if not 0 <= hue <= 0.5:
            raise ValueError(f"`hue` must lie in [0, 0.5]. Received: hue={hue}")
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.hue = hue
        self.probability = checked_probability(probability)

    def parameters(self, numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns what will be done to each image.

        Args:
            numbers: (batch, 9) float32 numbers, uniform in [0, 1).

        Returns:
            (batch,) bool, whether the image is changed; (batch, 4) factors of brightness, contrast
            and saturation and turn of hue; (batch, 4) int32, which of these four comes first,
            second, third and last, as 0 to 3.
        """
        strengths = tf.stack(
            [
                _factor(numbers[:, 1], self.brightness),
                _factor(numbers[:, 2], self.contrast),
                _factor(numbers[:, 3], self.saturation),
                between(numbers[:, 4], -self.hue, self.hue),
            ],
            axis=1,
        )
        return self.chosen(numbers), strengths, tf.argsort(numbers[:, 5:], axis=1)

    def change(self, images, numbers):
        """Applies the four changes in each image's order."""
        # All images take part in each step, those whose turn it is not with a neutral strength: the
        # whole batch moves at once, and nothing depends on the data's shape.
        return self._jittered(images, numbers, lambda _, change, planes: change(planes))

    def change_one(self, image, numbers):
        """Applies the four changes to one image, and leaves out the steps without a turn."""

        def if_any(turn, change, planes):
            return tf.cond(tf.reduce_any(turn), lambda: change(planes), lambda: planes)

        return self._jittered(image, numbers, if_any)

    def _jittered(self, images, numbers, if_any):
        # Hue and saturation exchange with each other, so an order says two things: whether contrast
        # or brightness comes first, and after how many of these two hue and saturation have their turn.
        _, strengths, _ = self.parameters(numbers)
        brightness, contrast, saturation, hue = (
            value[:, None, None] for value in tf.unstack(strengths, axis=1)
        )
        keys = tf.unstack(numbers[:, 5:, None, None], axis=1)  # four (batch, 1, 1)
        contrast_first = keys[_CONTRAST] < keys[_BRIGHTNESS]
        after_saturation, after_hue = (
            tf.cast(keys[_BRIGHTNESS] <= key, tf.int32) + tf.cast(keys[_CONTRAST] <= key, tf.int32)
            for key in (keys[_SATURATION], keys[_HUE])
        )

        planes = tf.unstack(images, axis=-1)  # each (batch, height, width)
        for done in range(3):
            if len(planes) == 3:
                turn = tf.where(after_hue == done, hue, 0.0)
                factor = tf.where(after_saturation == done, saturation, 1.0)
                turned = functools.partial(_turn_hue_and_saturation, turn=turn, factor=factor)
                planes = if_any((after_hue == done) | (after_saturation == done), turned, planes)
            if done < 2:
                is_contrast = contrast_first if done == 0 else ~contrast_first
                stretch = tf.where(is_contrast, contrast, 1.0)
                scale = tf.where(is_contrast, 1.0, brightness)
                planes = [_stretched(plane, stretch, scale) for plane in planes]
        return tf.stack(planes, axis=-1)


def _factor(numbers: tf.Tensor, strength: float) -> tf.Tensor:
    return between(numbers, max(0.0, 1.0 - strength), 1.0 + strength)


def _stretched(plane: tf.Tensor, stretch: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    mean = tf.reduce_mean(plane, axis=[1, 2], keepdims=True)
    return tf.clip_by_value(plane * (scale * stretch) + mean * (1.0 - stretch), 0.0, 1.0)


def _turn_hue_and_saturation(planes: list, turn: tf.Tensor, factor: tf.Tensor) -> list[tf.Tensor]:
    """Adds to HSV's hue and multiplies its saturation, without leaving RGB.

    A channel is the largest one, less the chroma times a piecewise linear function of hue: this is
    `hsv_to_rgb(rgb_to_hsv(...))` written out, channel by channel, which costs a fraction of it.
    """
    red, green, blue = planes
    largest = tf.maximum(tf.maximum(red, green), blue)
    smallest = tf.minimum(tf.minimum(red, green), blue)
    chroma = largest - smallest
    of_red, of_green = largest == red, largest == green
    difference = tf.where(of_red, green - blue, tf.where(of_green, blue - red, red - green))
    sector = tf.where(of_red, 0.0, tf.where(of_green, 2.0, 4.0))
    # In sixths of the circle. A grey pixel has no hue, and needs none.
    hue = difference / tf.maximum(chroma, 1e-30) + sector
    chroma = tf.minimum(chroma * factor, largest)  # saturation, chroma / largest, is at most 1
    smallest = largest - chroma

    def channel(offset):
        # From -3 to 3. From 0 to 6, less 3, would be the same; but constants that are added one
        # after the other are folded in a graph, and not without one: the last bits would differ.
        place = hue + (6.0 * turn + offset)
        place -= 6.0 * tf.floor(place / 6.0 + 0.5)
        return smallest + chroma * tf.clip_by_value(tf.abs(place) - 1.0, 0.0, 1.0)

    return [channel(-3.0), channel(1.0), channel(-1.0)]


@keras.saving.register_keras_serializable(package="keras_ssl")
class RandomGrayscale(RandomChange):
    """Removes an image's colour with a probability; the number of channels stays.

    Images without three channels have no colour and stay as they are.

    Args:
        probability: in [0, 1].
        seed: see `AugmentationLayer`, as for the call's arguments.

    Example:
        >>> grey = RandomGrayscale(probability=1.0)(np.random.rand(4, 8, 8, 3))
        >>> bool(tf.reduce_all(grey[..., 0] == grey[..., 2]))
        True

    Source: Chen et al. 2020 (SimCLR), appendix A.
    """

    draws = 1

    def __init__(self, probability: float = 0.2, seed: int | None = None, **kwargs):
        super().__init__(seed=seed, **kwargs)
        self.probability = checked_probability(probability)

    def change(self, images, numbers):
        """Removes the colour of the images."""
        if images.shape[-1] != 3:
            return images
        return tf.broadcast_to(tf.image.rgb_to_grayscale(images), tf.shape(images))
