"""The preprocessing contract as TensorFlow operations, from pixels or files to network inputs."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from keras_ssl.data.decoding import decode_common
from keras_ssl.data.value_range import ValueRange


class Preprocessing:
    """Preprocesses images according to a preprocessing contract.

    For a square size without mean and std, the result is that of `keras_ssl.augment.evaluation`.

    Args:
        contract: from `keras_ssl.export.model_card.preprocessing_contract`.

    Attributes:
        shape: `(height, width, channels)` of the result; `None` for sides that are not resized.
        decodes: whether image files can be decoded to the network's number of channels and type.
        pixel_type: type of images that are not preprocessed: uint8, or that of the value range.

    Example:
        >>> contract = keras_ssl.export.model_card.preprocessing_contract((32, 32, 3))
        >>> Preprocessing(contract)(np.zeros((2, 48, 64, 3), np.uint8)).shape
        TensorShape([2, 32, 32, 3])
    """

    def __init__(self, contract: Mapping[str, Any]):
        self._contract = contract
        self.shape = (*(contract["size"] or (None, None)), contract["channels"])
        found = contract.get("value_range")
        self._value_range = None if found is None else ValueRange.from_json(found)
        of = "uint8" if self._value_range is None else self._value_range.of
        self.pixel_type = tf.as_dtype(of if of in ("uint8", "uint16") else "float32")
        self.decodes = contract["channels"] in (1, 3) and self.pixel_type != tf.float32

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Crops, resizes, scales and normalizes images.

        Args:
            images: (..., height, width, channels): uint8, or float in [0, 1]; with a value range,
                values of that range in any type.

        Returns:
            float32 images of the network's size.
        """
        share, size = self._contract["centre_crop"], self._contract["size"]
        if share is not None:
            images = _central_square(images, share)
        images = self._to_unit(images)
        if size is not None:
            images = tf.image.resize(
                images,
                size,
                method=self._contract["interpolation"],
                antialias=self._contract["antialias"],
            )
            images = tf.clip_by_value(images, 0.0, 1.0)  # bicubic weights overshoot
        return self._normalize(images)

    def scale(self, images: tf.Tensor) -> tf.Tensor:
        """Scales images of the network's size to [0, 1], and normalizes them by mean and std."""
        return self._normalize(self._to_unit(images))

    def _to_unit(self, images: tf.Tensor) -> tf.Tensor:
        if self._value_range is not None:
            return self._value_range(images)
        return tf.image.convert_image_dtype(images, tf.float32)

    def _normalize(self, images: tf.Tensor) -> tf.Tensor:
        mean, std = self._contract["mean"], self._contract["std"]
        if mean is not None:
            images -= tf.constant(mean, tf.float32)
        if std is not None:
            images /= tf.constant(std, tf.float32)
        return images

    def prepare_file(self, encoded: tf.Tensor) -> tf.Tensor:
        """Decodes and preprocesses a JPEG, PNG, BMP or GIF file, given as a scalar string."""
        image = self(decode_common(encoded, self._contract["channels"], self.pixel_type))
        return tf.ensure_shape(image, self.shape)


def _central_square(images: tf.Tensor, share: float) -> tf.Tensor:
    shape = tf.shape(images)
    height, width = shape[-3], shape[-2]
    side = tf.cast(tf.round(tf.cast(tf.minimum(height, width), tf.float32) * share), tf.int32)
    side = tf.maximum(side, 1)
    top, left = (height - side) // 2, (width - side) // 2
    return images[..., top : top + side, left : left + side, :]
