"""Random horizontal flip."""

import keras
import tensorflow as tf

from keras_ssl.augment.layer import RandomChange, check_probability


@keras.saving.register_keras_serializable(package="keras_ssl")
class RandomFlip(RandomChange):
    """Flips images left to right with some probability.

    Args:
        probability: probability that an image is flipped, in [0, 1].
        seed: see `AugmentationLayer`, also for the call arguments.

    Raises:
        ValueError: if `probability` is not in [0, 1].

    Example:
        >>> RandomFlip(probability=1.0)(np.eye(2, dtype="float32")[..., None])[..., 0]
        <tf.Tensor: shape=(2, 2), dtype=float32, numpy=
        array([[0., 1.],
               [1., 0.]], dtype=float32)>

    Source: `data_util.py` of google-research/simclr.
    """

    draws = 1

    def __init__(self, probability: float = 0.5, seed: int | None = None, **kwargs):
        super().__init__(seed=seed, **kwargs)
        self.probability = check_probability(probability)

    def change(self, images, numbers):
        """Flips the images."""
        return tf.reverse(images, axis=[2])
