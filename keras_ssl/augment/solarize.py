"""Solarization: inverts the values above a threshold."""

import keras
import tensorflow as tf

from keras_ssl.augment.layer import RandomChange, check_probability


@keras.saving.register_keras_serializable(package="keras_ssl")
class RandomSolarize(RandomChange):
    """Inverts the values of an image at or above a threshold, with some probability.

    A value x becomes 1 - x, separately for each channel. Values below the threshold do not change.

    Args:
        probability: probability that an image is solarized, in [0, 1].
        threshold: in [0, 1].
        seed: see `AugmentationLayer`, also for the call arguments.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> pixels = np.array([0.0, 0.25, 0.5, 1.0], "float32").reshape(1, 4, 1)
        >>> RandomSolarize(probability=1.0)(pixels)[0, :, 0]
        <tf.Tensor: shape=(4,), dtype=float32, numpy=array([0.  , 0.25, 0.5 , 0.  ], dtype=float32)>

    Source: Grill et al. 2020 (BYOL), appendix B; `utils/augmentations.py` in byol/ of
    google-deepmind/deepmind-research.
    """

    draws = 1

    def __init__(
        self,
        probability: float = 0.2,
        threshold: float = 0.5,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(seed=seed, **kwargs)
        if not 0 <= threshold <= 1:
            raise ValueError(f"`threshold` must lie in [0, 1]. Received: threshold={threshold}")
        self.probability = check_probability(probability)
        self.threshold = threshold

    def change(self, images, numbers):
        """Solarizes the images."""
        return tf.where(images >= self.threshold, 1.0 - images, images)
