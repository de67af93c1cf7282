"""A chain of augmentation layers, and the two chains that make the two views."""

import functools
from typing import NamedTuple

import keras
import tensorflow as tf

from keras_ssl.augment import random
from keras_ssl.augment.crop import RandomCrop, in_unit_range
from keras_ssl.augment.layer import AugmentationLayer, RandomChange


@keras.saving.register_keras_serializable(package="keras_ssl")
class Augmentation(AugmentationLayer):
    """Layers one after the other, each with random numbers of its own.

    Args:
        layers: `AugmentationLayer`s; only the first may be a `RandomCrop`.
        seed: see `AugmentationLayer`, as for the call's arguments.

    Raises:
        TypeError: if one of the layers is not an `AugmentationLayer`.
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
                "Only the first of `layers` may be a RandomCrop: what follows takes images of one "
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
        """Applies the layers, from number `first` on, to a batch of images, given its (batch, 2) keys.

        Args:
            images: (batch, height, width, channels), or one image where `keys` is `None`.
            keys: of the images in this view.
            first: number of the first layer to apply.
            last: number of the layer to stop before; `None` applies all.
            training: `False` changes nothing at random, and needs no keys.
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
        """Applies the layers behind the crop to a batch of crops, given its (batch, 2) keys."""
        return self.apply(images, keys, first=1)

    def numbers(self, keys: tf.Tensor) -> list[tf.Tensor]:
        """Returns the numbers that each layer draws from (batch, 2) keys, (batch, draws) each."""
        return random.numbers_of_layers(keys, [layer.draws for layer in self.layers])

    def transform(self, images, numbers, first=0, last=None):
        """Does what `apply` does, by the numbers that `numbers` returns."""
        images = tf.image.convert_image_dtype(images, tf.float32)
        for layer, own in list(zip(self.layers, numbers, strict=True))[first:last]:
            images = layer.transform(images, own)
        return images

    def transform_one(self, image, numbers, first=0, dtype=tf.float32):
        """Does the same to one image, where a layer that it is not chosen for costs nothing.

        Args:
            image: (height, width, channels).
            numbers: of its layers, (1, draws) each.
            first: number of the first layer to apply.
            dtype: the one whose range the image has: 0 to 255 for uint8.
        """
        image = in_unit_range(tf.cast(image, tf.float32), dtype)[None]
        for layer, own in list(zip(self.layers, numbers, strict=True))[first:]:
            if isinstance(layer, RandomChange):
                change = functools.partial(layer.change_one, image, own)
                image = tf.cond(layer.chosen(own)[0], change, functools.partial(tf.identity, image))
            else:
                image = layer.transform(image, own)
        return image[0]

    @property
    def by_numbers(self) -> bool:
        """Whether `numbers` decide about all: no layer does something else in a `call` of its own."""
        return all(type(layer).call is AugmentationLayer.call for layer in self.layers)

    def size_of_view(self, shape: tf.TensorShape) -> int:
        """Returns the longer side of a view, in pixels, of images (height, width, channels)."""
        crop = self.layers[0] if self.layers else None
        return crop.size if isinstance(crop, RandomCrop) else max(shape[:2])

    @property
    def begins_with_crop(self) -> bool:
        """Whether images of different sizes can be augmented."""
        return bool(self.layers) and isinstance(self.layers[0], RandomCrop)

    def get_config(self):
        """Returns the arguments of the constructor."""
        layers = [keras.saving.serialize_keras_object(layer) for layer in self.layers]
        return {**super().get_config(), "layers": layers}

    @classmethod
    def from_config(cls, config):
        """Builds the chain from what `get_config` returned."""
        layers = [keras.saving.deserialize_keras_object(layer) for layer in config.pop("layers")]
        return cls(layers=layers, **config)


class Policy(NamedTuple):
    """How the two views of an image are made.

    Attributes:
        view_1: augmentation of the first view.
        view_2: augmentation of the second; SimCLR and MoCo use the same one twice, BYOL two.
    """

    view_1: Augmentation
    view_2: Augmentation
