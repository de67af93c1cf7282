"""Gaussian blur with a width of each image's own."""

import keras
import tensorflow as tf

from keras_ssl.augment.layer import RandomChange, between, by_value, checked_probability


@keras.saving.register_keras_serializable(package="keras_ssl")
class RandomBlur(RandomChange):
    """Blurs an image with a Gaussian whose width is drawn for each image.

    The kernel covers a tenth of the image's side, made odd. Beyond the border is black, as in the
    reference code.

    Args:
        probability: share of the images that are blurred.
        sigma: range of the Gaussian's standard deviation, in pixels.
        seed: see `AugmentationLayer`, as for the call's arguments.

    Raises:
        ValueError: if the range is empty or not positive.

    Example:
        >>> RandomBlur(probability=1.0)(np.random.rand(4, 32, 32, 3)).shape
        TensorShape([4, 32, 32, 3])

    Source: Chen et al. 2020 (SimCLR), appendix A; `data_util.py` of google-research/simclr.
    """

    draws = 2

    def __init__(
        self,
        probability: float = 0.5,
        sigma: tuple[float, float] = (0.1, 2.0),
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(seed=seed, **kwargs)
        if not 0 < sigma[0] <= sigma[1]:
            raise ValueError(
                f"`sigma` must be a range of positive numbers, (low, high). Received: sigma={sigma}"
            )
        self.probability = checked_probability(probability)
        self.sigma = tuple(sigma)

    def change(self, images, numbers):
        """Blurs each image by a width of its own."""
        height, width = images.shape[1], images.shape[2]
        taps = self._taps(numbers, height)
        rows = _blur_matrix(taps, height)  # (batch, height, height)
        columns = _blur_matrix(taps, width)
        # A convolution with a kernel of each image's own, as a product with its band matrix: batched
        # matrix products are what accelerators are fastest at.
        blurred = tf.einsum("bij,bjwc->biwc", rows, images)
        return tf.einsum("bij,bhjc->bhic", columns, blurred)

    def change_one(self, image, numbers):
        """Blurs one image, as a sum of shifted images: a processor does half the work so."""
        _, height, width, channels = image.shape
        taps = self._taps(numbers, height)[0]
        reach = taps.shape[0] - 1

        def unfused(function):
            # A hack: XLA would compute what is shifted anew for each shift, border and all, but never
            # looks into a branch. The numbers are never negative, so it is always taken.
            return tf.cond(numbers[0, 0] >= 0.0, function, lambda: tf.zeros_like(function()))

        border = [(0, 0), (reach, reach), (reach * channels, reach * channels)]
        flat = tf.reshape(image, (1, height, width * channels))
        padded = unfused(lambda: tf.pad(flat, border))
        blurred = unfused(lambda: _weighted_sum(padded, taps, axis=1, step=1))
        blurred = _weighted_sum(blurred, taps, axis=2, step=channels)
        return tf.reshape(blurred, image.shape)

    def _taps(self, numbers: tf.Tensor, height: int) -> tf.Tensor:
        """Returns (batch, reach + 1) float32 weights of the pixels at distance 0, 1, ..., reach."""
        sigma = between(numbers[:, 1], *self.sigma)
        distances = tf.range(height // 10 // 2 + 1, dtype=tf.float32)
        taps = by_value(tf.exp, -tf.square(distances / sigma[:, None]) / 2.0)
        return taps / (2.0 * tf.reduce_sum(taps, axis=1, keepdims=True) - taps[:, :1])  # both sides


def _blur_matrix(taps: tf.Tensor, size: int) -> tf.Tensor:
    taps = tf.pad(taps, [(0, 0), (0, 1)])  # further away: nothing
    distance = tf.abs(tf.range(size)[:, None] - tf.range(size))  # (size, size)
    return tf.gather(taps, tf.minimum(distance, taps.shape[1] - 1), axis=1)  # (batch, size, size)


def _weighted_sum(padded: tf.Tensor, taps: tf.Tensor, axis: int, step: int) -> tf.Tensor:
    """Sums (1, rows, columns) shifted by multiples of `step` along an axis, without its border."""
    reach = taps.shape[0] - 1
    size = padded.shape[axis] - 2 * reach * step

    def shifted(distance):
        start = (reach + distance) * step
        return padded[:, start : start + size] if axis == 1 else padded[..., start : start + size]

    pairs = [taps[d] * (shifted(d) + shifted(-d)) for d in range(1, reach + 1)]
    return tf.add_n([taps[0] * shifted(0), *pairs])
