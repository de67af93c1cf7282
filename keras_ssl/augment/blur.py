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
        sigma = between(numbers[:, 1], *self.sigma)
        height, width = images.shape[1], images.shape[2]
        rows = _blur_matrix(sigma, height, reach=height // 10 // 2)  # (batch, height, height)
        columns = _blur_matrix(sigma, width, reach=height // 10 // 2)
        # A convolution with a kernel of each image's own, as a product with its band matrix: batched
        # matrix products are what accelerators are fastest at.
        blurred = tf.einsum("bij,bjwc->biwc", rows, images)
        return tf.einsum("bij,bhjc->bhic", columns, blurred)


def _blur_matrix(sigma: tf.Tensor, size: int, reach: int) -> tf.Tensor:
    distances = tf.range(reach + 1, dtype=tf.float32)
    taps = by_value(tf.exp, -tf.square(distances / sigma[:, None]) / 2.0)  # (batch, reach + 1)
    taps /= 2.0 * tf.reduce_sum(taps, axis=1, keepdims=True) - taps[:, :1]  # both sides, one centre
    taps = tf.pad(taps, [(0, 0), (0, 1)])  # further away: nothing
    distance = tf.abs(tf.range(size)[:, None] - tf.range(size))  # (size, size)
    return tf.gather(taps, tf.minimum(distance, reach + 1), axis=1)  # (batch, size, size)
