"""Chains of augmentation layers, and the pair of chains that makes two views."""

import functools
from typing import NamedTuple

import keras
import tensorflow as tf

from keras_ssl.augment import random
from keras_ssl.augment.crop import RandomCrop, to_unit_range
from keras_ssl.augment.layer import AugmentationLayer, RandomChange


@keras.saving.register_keras_serializable(package="keras_ssl")
class Augmentation(AugmentationLayer):
    """Applies layers one after the other, each with its own random numbers.

    Args:
        layers: list of `AugmentationLayer`; only the first may be a `RandomCrop`.
        seed: see `AugmentationLayer`, also for the call arguments.

    Raises:
        TypeError: if one of `layers` is not an `AugmentationLayer`.
        ValueError: if a crop comes after another layer.

    Example:
        >>> chain = Augmentation([RandomCrop(32), RandomFlip()])
        >>> chain(np.zeros((4, 48, 64, 3), "uint8")).shape
        TensorShape([4, 32, 32, 3])
    """

    def __init__(self, layers: list[AugmentationLayer], seed: int | None = None, **kwargs):
        super().__init__(seed=seed, **kwargs)
        for layer in layers:
            if not isinstance(layer, AugmentationLayer):
                raise TypeError(
                    "`layers` must be augmentation layers (keras_ssl.augment.AugmentationLayer). "
                    f"Received: {layer!r} of type {type(layer).__name__}"
                )
        if any(isinstance(layer, RandomCrop) for layer in layers[1:]):
            raise ValueError(
                "Only the first of `layers` may be a RandomCrop: later layers need images of one "
                f"size. Received: {[type(layer).__name__ for layer in layers]}"
            )
        self.layers = list(layers)

    def call(self, images, keys=None, training=True):
        """Returns the images after all layers."""
        if keys is None and training:
            shape = tf.shape(images)
            count = 1 if images.shape.rank == 3 else shape[0]
            keys = random.image_keys(self._fresh_seed(), 0, tf.range(count, dtype=tf.int64), view=0)
        return self.apply(images, keys, training=training)

    def apply(
        self,
        images: tf.Tensor,
        keys: tf.Tensor | None,
        first: int = 0,
        last: int | None = None,
        training: bool = True,
    ) -> tf.Tensor:
        """Applies layers `first` to `last - 1` to a batch of images.

        Args:
            images: (batch, height, width, channels), or one image where `keys` is `None`.
            keys: (batch, 2) keys of the images in this view; `None` if `training` is `False`.
            first: index of the first layer to apply.
            last: index of the layer to stop before; `None` applies all remaining layers.
            training: `False` turns off random changes.

        Returns:
            float32 images in [0, 1].
        """
        images = tf.image.convert_image_dtype(images, tf.float32)
        for position, layer in list(enumerate(self.layers))[first:last]:
            own = random.fold(keys, position) if training else None
            images = layer(images, keys=own, training=training)
        return images

    def crop_one(self, image: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """Applies the first layer, a crop, to one image of any size, given its (1, 2) key."""
        crop = self.layers[0]
        return crop.crop_one(image, random.uniform(random.fold(key, 0), crop.draws))

    def after_crop(self, images: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        """Applies the layers after the crop to a batch of crops, given its (batch, 2) keys."""
        return self.apply(images, keys, first=1)

    def numbers(self, keys: tf.Tensor) -> list[tf.Tensor]:
        """Returns each layer's (batch, draws) random numbers for (batch, 2) keys."""
        return random.numbers_of_layers(keys, [layer.draws for layer in self.layers])

    def transform(self, images, numbers, first=0, last=None):
        """Does the same as `apply`, given the random numbers from `numbers` instead of keys."""
        images = tf.image.convert_image_dtype(images, tf.float32)
        for layer, own in list(zip(self.layers, numbers, strict=True))[first:last]:
            images = layer.transform(images, own)
        return images

    def transform_one(self, image, numbers, first=0, dtype=tf.float32):
        """Does the same to one image, and skips the layers that do not change it.

        Args:
            image: (height, width, channels).
            numbers: (1, draws) random numbers for each layer.
            first: index of the first layer to apply.
            dtype: dtype whose value range the image has, such as uint8 for 0 to 255.

        Returns:
            float32 image in [0, 1].
        """
        image = to_unit_range(tf.cast(image, tf.float32), dtype)[None]
        for layer, own in list(zip(self.layers, numbers, strict=True))[first:]:
            if isinstance(layer, RandomChange):
                change = functools.partial(layer.change_one, image, own)
                image = tf.cond(layer.chosen(own)[0], change, functools.partial(tf.identity, image))
            else:
                image = layer.transform(image, own)
        return image[0]

    @property
    def can_draw_ahead(self) -> bool:
        """Whether `transform` gives the same result as a call: no layer overrides `call`."""
        return all(type(layer).call is AugmentationLayer.call for layer in self.layers)

    def size_of_view(self, shape: tf.TensorShape) -> int:
        """Returns the longer side, in pixels, of the view of a (height, width, channels) image."""
        crop = self.layers[0] if self.layers else None
        return crop.size if isinstance(crop, RandomCrop) else max(shape[:2])

    @property
    def begins_with_crop(self) -> bool:
        """Whether the first layer is a crop, so that image sizes may differ."""
        return bool(self.layers) and isinstance(self.layers[0], RandomCrop)

    def get_config(self):
        """Returns the arguments of the constructor."""
        layers = [keras.saving.serialize_keras_object(layer) for layer in self.layers]
        return {**super().get_config(), "layers": layers}

    @classmethod
    def from_config(cls, config):
        """Builds the chain from the configuration that `get_config` returns."""
        layers = [keras.saving.deserialize_keras_object(layer) for layer in config.pop("layers")]
        return cls(layers=layers, **config)


class Policy(NamedTuple):
    """The augmentations that make the two views of an image.

    Attributes:
        view_1: augmentation of the first view.
        view_2: augmentation of the second view. SimCLR and MoCo use the same for both views, BYOL uses
            two different ones.
    """

    view_1: Augmentation
    view_2: Augmentation
