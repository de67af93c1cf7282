"""Gaussian blur with a random width per image."""

import keras
import tensorflow as tf

from keras_ssl.augment.layer import RandomChange, apply_in_float64, check_probability, rescale


@keras.saving.register_keras_serializable(package="keras_ssl")
class RandomBlur(RandomChange):
    """Blurs images with a Gaussian whose width is drawn for each image.

    The kernel size is a tenth of the image's height, made odd. Images are padded with black, as in the
    reference code.

    Args:
        probability: probability that an image is blurred, in [0, 1].
        sigma: (low, high) range of the Gaussian's standard deviation, in pixels.
        seed: see `AugmentationLayer`, also for the call arguments.

    Raises:
        ValueError: if `sigma` is empty or not positive, or `probability` is not in [0, 1].

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
        self.probability = check_probability(probability)
        self.sigma = tuple(sigma)

    def change(self, images, numbers):
        """Blurs each image with its own width."""
        height, width = images.shape[1], images.shape[2]
        taps = self._taps(numbers, height)
        rows = _blur_matrix(taps, height)  # (batch, height, height)
        columns = _blur_matrix(taps, width)
        # A convolution with a different kernel per image, as a product with the kernel's band matrix.
        # Accelerators are fastest at batched matrix products.
        blurred = tf.einsum("bij,bjwc->biwc", rows, images)
        return tf.einsum("bij,bhjc->bhic", columns, blurred)

    def change_one(self, image, numbers):
        """Blurs one image as a sum of shifted images, which halves the work on a CPU."""
        _, height, width, channels = image.shape
        taps = self._taps(numbers, height)[0]
        reach = taps.shape[0] - 1

        def unfused(function):
            # A hack: XLA would recompute the input of the shifts for each shift, but it does not fuse
            # across a branch. The numbers are never negative, so this branch is always taken.
            return tf.cond(numbers[0, 0] >= 0.0, function, lambda: tf.zeros_like(function()))

        border = [(0, 0), (reach, reach), (reach * channels, reach * channels)]
        flat = tf.reshape(image, (1, height, width * channels))
        padded = unfused(lambda: tf.pad(flat, border))
        blurred = unfused(lambda: _weighted_sum(padded, taps, axis=1, step=1))
        blurred = _weighted_sum(blurred, taps, axis=2, step=channels)
        return tf.reshape(blurred, image.shape)

    def _taps(self, numbers: tf.Tensor, height: int) -> tf.Tensor:
        """Returns (batch, reach + 1) float32 kernel weights at distances 0, 1, ..., reach."""
        sigma = rescale(numbers[:, 1], *self.sigma)
        distances = tf.range(height // 10 // 2 + 1, dtype=tf.float32)
        taps = apply_in_float64(tf.exp, -tf.square(distances / sigma[:, None]) / 2.0)
        # The sum counts the centre once and the other taps on both sides.
        return taps / (2.0 * tf.reduce_sum(taps, axis=1, keepdims=True) - taps[:, :1])


def _blur_matrix(taps: tf.Tensor, size: int) -> tf.Tensor:
    taps = tf.pad(taps, [(0, 0), (0, 1)])  # zero at larger distances
    distance = tf.abs(tf.range(size)[:, None] - tf.range(size))  # (size, size)
    return tf.gather(taps, tf.minimum(distance, taps.shape[1] - 1), axis=1)  # (batch, size, size)


def _weighted_sum(padded: tf.Tensor, taps: tf.Tensor, axis: int, step: int) -> tf.Tensor:
    """Returns the weighted sum of shifts of `padded` by multiples of `step`, without the border.

    Args:
        padded: (1, rows, columns), padded by `reach * step` on both sides of `axis`.
        taps: (reach + 1,) weights of the shifts by 0, 1, ..., reach steps.
        axis: 1 or 2.
        step: number of entries per shift.
    """
    reach = taps.shape[0] - 1
    size = padded.shape[axis] - 2 * reach * step

    def shifted(distance):
        start = (reach + distance) * step
        return padded[:, start : start + size] if axis == 1 else padded[..., start : start + size]

    pairs = [taps[d] * (shifted(d) + shifted(-d)) for d in range(1, reach + 1)]
    return tf.add_n([taps[0] * shifted(0), *pairs])
