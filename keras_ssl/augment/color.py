"""Colour distortion: jitter of brightness, contrast, saturation and hue, and conversion to grey."""

import functools

import keras
import tensorflow as tf

from keras_ssl.augment.layer import RandomChange, check_probability, rescale

_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)


@keras.saving.register_keras_serializable(package="keras_ssl")
class ColorJitter(RandomChange):
    """Changes brightness, contrast, saturation and hue, in a random order per image.

    Pixels are clipped to [0, 1] after each of the four changes. Brightness, contrast and saturation are
    multiplied by a factor uniform in [max(0, 1 - s), 1 + s], and hue is rotated by a fraction uniform
    in [-s, s] of the full circle. Brightness multiplies pixels, as in version 2 of the reference code
    (version 1 adds). Contrast scales each channel around its mean over the image. Saturation is that of
    HSV. For images without three channels, only brightness and contrast change.

    Args:
        brightness: strength s, 0 or more.
        contrast: strength s, 0 or more.
        saturation: strength s, 0 or more.
        hue: strength s in [0, 0.5].
        probability: probability that an image is changed, in [0, 1].
        seed: see `AugmentationLayer`, also for the call arguments.

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
        self.probability = check_probability(probability)

    def parameters(self, numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns the changes of each image.

        Args:
            numbers: (batch, 9) float32 numbers, uniform in [0, 1).

        Returns:
            A tuple of (batch,) bool, whether the image is changed; (batch, 4) factors of brightness,
            contrast and saturation, and rotation of hue; and (batch, 4) int32, the order of these four
            as indices from 0 to 3.
        """
        strengths = tf.stack(
            [
                _factor(numbers[:, 1], self.brightness),
                _factor(numbers[:, 2], self.contrast),
                _factor(numbers[:, 3], self.saturation),
                rescale(numbers[:, 4], -self.hue, self.hue),
            ],
            axis=1,
        )
        return self.chosen(numbers), strengths, tf.argsort(numbers[:, 5:], axis=1)

    def change(self, images, numbers):
        """Applies the four changes in each image's order."""
        # Each step is computed for the entire batch, with a neutral strength for the images that have
        # another change in this step. So no shape depends on the data.
        return self._jitter(images, numbers, lambda _, change, planes: change(planes))

    def change_one(self, image, numbers):
        """Applies the four changes to one image, and skips the steps without a change."""

        def if_any(turn, change, planes):
            return tf.cond(tf.reduce_any(turn), lambda: change(planes), lambda: planes)

        return self._jitter(image, numbers, if_any)

    def _jitter(self, images, numbers, if_any):
        # Hue and saturation commute, so an order is given by two facts: whether contrast or brightness
        # comes first, and after how many of these two hue and saturation are changed.
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
                turned = functools.partial(_change_hue_and_saturation, turn=turn, factor=factor)
                planes = if_any((after_hue == done) | (after_saturation == done), turned, planes)
            if done < 2:
                is_contrast = contrast_first if done == 0 else ~contrast_first
                stretch = tf.where(is_contrast, contrast, 1.0)
                scale = tf.where(is_contrast, 1.0, brightness)
                planes = [_stretch(plane, stretch, scale) for plane in planes]
        return tf.stack(planes, axis=-1)


def _factor(numbers: tf.Tensor, strength: float) -> tf.Tensor:
    return rescale(numbers, max(0.0, 1.0 - strength), 1.0 + strength)


def _stretch(plane: tf.Tensor, stretch: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    mean = tf.reduce_mean(plane, axis=[1, 2], keepdims=True)
    return tf.clip_by_value(plane * (scale * stretch) + mean * (1.0 - stretch), 0.0, 1.0)


def _change_hue_and_saturation(planes: list, turn: tf.Tensor, factor: tf.Tensor) -> list[tf.Tensor]:
    """Adds `turn` to the hue and multiplies the saturation by `factor`, directly in RGB.

    Each channel is the largest channel minus the chroma times a piecewise linear function of hue. This
    is `hsv_to_rgb(rgb_to_hsv(...))` written out per channel, which is much cheaper.
    """
    red, green, blue = planes
    largest = tf.maximum(tf.maximum(red, green), blue)
    smallest = tf.minimum(tf.minimum(red, green), blue)
    chroma = largest - smallest
    is_red, is_green = largest == red, largest == green
    difference = tf.where(is_red, green - blue, tf.where(is_green, blue - red, red - green))
    sector = tf.where(is_red, 0.0, tf.where(is_green, 2.0, 4.0))
    # In sixths of the circle. The hue of a grey pixel is arbitrary and has no effect.
    hue = difference / tf.maximum(chroma, 1e-30) + sector
    chroma = tf.minimum(chroma * factor, largest)  # saturation, chroma / largest, is at most 1
    smallest = largest - chroma

    def channel(offset):
        # From -3 to 3. A value from 0 to 6, minus 3, would be the same, but graph optimization folds
        # constants that are added in sequence, so the last bits would differ from eager mode.
        place = hue + (6.0 * turn + offset)
        place -= 6.0 * tf.floor(place / 6.0 + 0.5)
        return smallest + chroma * tf.clip_by_value(tf.abs(place) - 1.0, 0.0, 1.0)

    return [channel(-3.0), channel(1.0), channel(-1.0)]


@keras.saving.register_keras_serializable(package="keras_ssl")
class RandomGrayscale(RandomChange):
    """Converts images to grey with some probability, and keeps the number of channels.

    Images without three channels are not changed.

    Args:
        probability: probability that an image is converted, in [0, 1].
        seed: see `AugmentationLayer`, also for the call arguments.

    Raises:
        ValueError: if `probability` is not in [0, 1].

    Example:
        >>> grey = RandomGrayscale(probability=1.0)(np.random.rand(4, 8, 8, 3))
        >>> bool(tf.reduce_all(grey[..., 0] == grey[..., 2]))
        True

    Source: Chen et al. 2020 (SimCLR), appendix A.
    """

    draws = 1

    def __init__(self, probability: float = 0.2, seed: int | None = None, **kwargs):
        super().__init__(seed=seed, **kwargs)
        self.probability = check_probability(probability)

    def change(self, images, numbers):
        """Converts the images to grey."""
        if images.shape[-1] != 3:
            return images
        return tf.broadcast_to(tf.image.rgb_to_grayscale(images), tf.shape(images))
