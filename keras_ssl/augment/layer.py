"""Base classes of augmentation layers, which change each image by its own random numbers."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_ssl.augment import random
from keras_ssl.augment.constructor_arguments import constructor_arguments


class AugmentationLayer(keras.layers.Layer):
    """A Keras layer that changes each image of a batch by random numbers from the image's key.

    A subclass defines how many random numbers an image needs (`draws`), and how they change it
    (`transform`).

    Call arguments:
        images: (batch, height, width, channels) or (height, width, channels); uint8, uint16, or
            float in [0, 1].
        keys: (batch, 2) uint32 keys, one per image (see `keras_ssl.augment.random.image_keys`). With
            keys the layer is a pure function. `None` draws keys from the layer's own generator.
        training: `False` only converts the dtype of the images.

    Returns:
        float32 images in [0, 1].

    Args:
        seed: seed of the layer's own generator, used if no keys are passed.

    Attributes:
        draws: number of random numbers per image.
        compiles: whether XLA can compile `transform` for images of a known size, which `data.views`
            then does. Set it to `False` in a layer that calls Python or an operation unknown to XLA.
    """

    draws = 0
    compiles = True

    def __init__(self, seed: int | None = None, **kwargs):
        # Pixels are always float32, also if the network uses half precision.
        super().__init__(**{"dtype": "float32", **kwargs})
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, images, keys=None, training=True):
        """Returns the changed images."""
        images = tf.image.convert_image_dtype(images, tf.float32)
        if not training:
            return self.unchanged(images)
        if images.shape.rank == 3:
            keys = None if keys is None else tf.reshape(keys, (1, 2))
            return self.call(images[None], keys)[0]
        if keys is None:
            position = tf.range(tf.shape(images)[0], dtype=tf.int64)
            keys = random.image_keys(self._fresh_seed(), 0, position, view=0)
        numbers = random.uniform(keys, self.draws) if self.draws else None
        return self.transform(images, numbers)

    def transform(self, images: tf.Tensor, numbers: tf.Tensor | None) -> tf.Tensor:
        """Changes float32 images (batch, h, w, c) by (batch, draws) numbers, uniform in [0, 1)."""
        raise TypeError(f"{type(self).__name__} does not define `transform`.")

    def unchanged(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the layer's output with `training=False`."""
        return images

    def _fresh_seed(self) -> tf.Tensor:
        words = tf.cast(tf.convert_to_tensor(self.seed_generator.next()), tf.int64)
        return (words[0] & 0x7FFFFFFF) * 2**32 + (words[1] & 0xFFFFFFFF)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), **constructor_arguments(self)}


class RandomChange(AugmentationLayer):
    """A layer that changes randomly chosen images and leaves the others unchanged.

    The first of an image's random numbers decides. A subclass sets `probability` and defines how a
    chosen image is changed (`change`). Because the choice is made here, an image that is not chosen
    costs nothing where images are processed one by one.
    """

    probability: float

    def chosen(self, numbers: tf.Tensor) -> tf.Tensor:
        """Returns (batch,) bool, whether each image is changed, given (batch, draws) numbers."""
        return numbers[:, 0] < self.probability

    def transform(self, images, numbers):
        """Changes the images whose first number is below the probability."""
        changed = self.change(images, numbers)
        return tf.where(per_image(self.chosen(numbers)), changed, images)

    def change(self, images: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        """Changes all float32 images (batch, h, w, c) by (batch, draws) numbers."""
        raise TypeError(f"{type(self).__name__} does not define `change`.")

    def change_one(self, image: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        """Does the same to a batch of one, (1, h, w, c). Override it if another way is faster."""
        return self.change(image, numbers)


def rescale(numbers: tf.Tensor, low: float, high: float) -> tf.Tensor:
    """Scales numbers from [0, 1) to [low, high)."""
    return low + (high - low) * numbers


def apply_in_float64(function: Callable[[tf.Tensor], tf.Tensor], values: tf.Tensor) -> tf.Tensor:
    """Applies a function such as exp or sin, with results that do not depend on the batch position.

    Vector and scalar instructions of a CPU round such functions differently in the last bit, and the
    position in the batch decides which are used. Computing in float64 and rounding to float32 removes
    the difference.
    """
    return tf.cast(function(tf.cast(values, tf.float64)), tf.float32)


def per_image(values: tf.Tensor) -> tf.Tensor:
    """Reshapes (batch,) values to broadcast against (batch, height, width, channels)."""
    return values[:, None, None, None]


def check_probability(probability: float) -> float:
    """Returns `probability` if it lies in [0, 1], and raises ValueError otherwise."""
    if not 0 <= probability <= 1:
        raise ValueError(f"`probability` must lie in [0, 1]. Received: probability={probability}")
    return probability
