"""Colour distortion: jitter of brightness, contrast, saturation and hue, and grey-scale."""

import keras
import tensorflow as tf

from keras_ssl.augment.layer import AugmentationLayer, between, checked_probability, per_image

_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)


@keras.saving.register_keras_serializable(package="keras_ssl")
class ColorJitter(AugmentationLayer):
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
        change = numbers[:, 0] < self.probability
        strengths = tf.stack(
            [
                _factor(numbers[:, 1], self.brightness),
                _factor(numbers[:, 2], self.contrast),
                _factor(numbers[:, 3], self.saturation),
                between(numbers[:, 4], -self.hue, self.hue),
            ],
            axis=1,
        )
        return change, strengths, tf.argsort(numbers[:, 5:], axis=1)

    def transform(self, images, numbers):
        """Applies the four changes in each image's order."""
        change, strengths, order = self.parameters(numbers)
        jittered = images
        for position in range(4):
            # All images take part in each change, those whose turn it is not with a neutral strength:
            # the whole batch moves at once, and nothing depends on the data's shape.
            def strength(operation, neutral, position=position):
                turn = order[:, position] == operation
                return per_image(tf.where(turn, strengths[:, operation], neutral))

            mean = tf.reduce_mean(jittered, axis=[1, 2], keepdims=True)
            contrast = strength(_CONTRAST, 1.0)
            jittered = jittered * (strength(_BRIGHTNESS, 1.0) * contrast) + mean * (1.0 - contrast)
            jittered = tf.clip_by_value(jittered, 0.0, 1.0)
            if images.shape[-1] == 3:
                jittered = _turn_hue_and_saturation(
                    jittered, strength(_HUE, 0.0), strength(_SATURATION, 1.0)
                )
        return tf.where(per_image(change), jittered, images)


def _factor(numbers: tf.Tensor, strength: float) -> tf.Tensor:
    return between(numbers, max(0.0, 1.0 - strength), 1.0 + strength)


def _turn_hue_and_saturation(images: tf.Tensor, turn: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    hue, saturation, value = tf.split(tf.image.rgb_to_hsv(images), 3, axis=-1)
    hue = tf.math.floormod(hue + turn, 1.0)
    saturation = tf.minimum(saturation * factor, 1.0)
    return tf.image.hsv_to_rgb(tf.concat([hue, saturation, value], axis=-1))


@keras.saving.register_keras_serializable(package="keras_ssl")
class RandomGrayscale(AugmentationLayer):
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

    def transform(self, images, numbers):
        """Removes the colour of the images whose number falls below the probability."""
        if images.shape[-1] != 3:
            return images
        drop = per_image(numbers[:, 0] < self.probability)
        return tf.where(drop, tf.image.rgb_to_grayscale(images), images)
