"""Crops: the random resized crop of pretraining and the centre crop of evaluation."""

import math

import keras
import tensorflow as tf

from keras_ssl.augment.bicubic import bicubic_weights
from keras_ssl.augment.layer import AugmentationLayer, between

_ATTEMPTS = 10


@keras.saving.register_keras_serializable(package="keras_ssl")
class RandomCrop(AugmentationLayer):
    """Cuts out a random part of an image and resizes it, bicubically, to a square.

    The part's area is uniform in `area` (as a share of the image's), its aspect ratio log-uniform in
    `aspect`, its place uniform. If ten tries give no part that fits into the image, the largest
    central part whose aspect ratio lies in `aspect` is taken, as torchvision does.

    Args:
        size: side of the result, in pixels.
        area: range of the part's share of the image, within (0, 1]; SimCLR and BYOL .08 to 1, MoCo .2
            to 1.
        aspect: range of width / height.
        seed: see `AugmentationLayer`, as for the call's arguments. With `training=False` the whole
            image is resized.

    Raises:
        ValueError: if `size` or a range makes no sense.

    Example:
        >>> RandomCrop(32)(np.zeros((4, 48, 64, 3), "uint8")).shape
        TensorShape([4, 32, 32, 3])

    Source: Chen et al. 2020 (SimCLR), appendix A; bicubic without antialiasing as in `data_util.py`
    of google-research/simclr.
    """

    draws = 2 * _ATTEMPTS + 2  # area and aspect of each try, and the place

    def __init__(
        self,
        size: int,
        area: tuple[float, float] = (0.08, 1.0),
        aspect: tuple[float, float] = (3 / 4, 4 / 3),
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(seed=seed, **kwargs)
        if size < 1:
            raise ValueError(f"`size` must be at least 1 pixel. Received: size={size}")
        if not 0 < area[0] <= area[1] <= 1:
            raise ValueError(
                f"`area` must be a range within (0, 1], (low, high). Received: area={area}"
            )
        if not 0 < aspect[0] <= aspect[1]:
            raise ValueError(
                f"`aspect` must be a range of positive numbers, (low, high). "
                f"Received: aspect={aspect}"
            )
        self.size = size
        self.area = tuple(area)
        self.aspect = tuple(aspect)

    def boxes(self, numbers: tf.Tensor, height, width) -> tf.Tensor:
        """Returns the (batch, 4) int32 parts to cut out: top, left, height, width, in pixels.

        Args:
            numbers: (batch, 22) float32 numbers, uniform in [0, 1).
            height: height of the images, a number or a scalar tensor.
            width: likewise.
        """
        # In float64: where a side is rounded decides about whole pixels, and a compiler that fuses a
        # product and a sum rounds the last bit of a float32 in another way.
        numbers = tf.cast(numbers, tf.float64)
        whole_height, whole_width = tf.cast(height, tf.float64), tf.cast(width, tf.float64)
        area = between(numbers[:, :_ATTEMPTS], *self.area) * whole_height * whole_width
        log_aspect = between(
            numbers[:, _ATTEMPTS : 2 * _ATTEMPTS],
            math.log(self.aspect[0]),
            math.log(self.aspect[1]),
        )
        aspect = tf.exp(log_aspect)
        heights = tf.round(tf.sqrt(area / aspect))  # (batch, attempts)
        widths = tf.round(tf.sqrt(area * aspect))
        fits = (heights >= 1) & (heights <= whole_height) & (widths >= 1) & (widths <= whole_width)
        first = tf.argmax(tf.cast(fits, tf.int32), axis=1)  # the first try that fits
        box_height = tf.gather(heights, first, batch_dims=1)
        box_width = tf.gather(widths, first, batch_dims=1)

        fallback_aspect = tf.clip_by_value(whole_width / whole_height, *self.aspect)
        fallback_height = tf.round(tf.minimum(whole_height, whole_width / fallback_aspect))
        fallback_width = tf.round(tf.minimum(whole_width, whole_height * fallback_aspect))
        found = tf.reduce_any(fits, axis=1)
        box_height = tf.where(found, box_height, fallback_height)
        box_width = tf.where(found, box_width, fallback_width)
        # Each place is equally likely; a fallback sits in the middle.
        place = tf.where(found[:, None], numbers[:, -2:], tf.constant(0.5, tf.float64))
        top = tf.floor(place[:, 0] * (whole_height - box_height + 1))
        left = tf.floor(place[:, 1] * (whole_width - box_width + 1))
        return tf.cast(tf.stack([top, left, box_height, box_width], axis=1), tf.int32)

    def transform(self, images, numbers):
        """Cuts a part of its own out of each image."""
        height, width = tf.unstack(tf.shape(images)[1:3])  # unknown when a graph is built, at times
        boxes = tf.cast(self.boxes(numbers, height, width), tf.float32)
        rows = bicubic_weights(boxes[:, 0], boxes[:, 2], height, self.size)
        columns = bicubic_weights(boxes[:, 1], boxes[:, 3], width, self.size)
        # Interpolation with weights of each image's own, as two batched matrix products.
        crops = tf.einsum("bij,bjwc->biwc", rows, images)
        crops = tf.einsum("bij,bhjc->bhic", columns, crops)
        return tf.clip_by_value(crops, 0.0, 1.0)  # bicubic weights overshoot

    def crop_one(self, image: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        """Does the same to one image of any size, (height, width, channels), given (1, 22) numbers."""
        shape = tf.shape(image)
        box = self.boxes(numbers, shape[0], shape[1])[0]
        return in_unit_range(self.resized_part(image, box), image.dtype)

    def resized_part(self, image: tf.Tensor, box: tf.Tensor) -> tf.Tensor:
        """Cuts (top, left, height, width) out of one image and resizes it.

        Returns:
            (size, size, channels) float32 in the image's own range, such as 0 to 255, and beyond it by
            what bicubic weights overshoot.
        """
        top, left, height, width = tf.unstack(box)
        part = image[top : top + height, left : left + width]
        return tf.image.resize(part, (self.size, self.size), method="bicubic")

    def unchanged(self, images):
        """Resizes the whole images."""
        return _resized(images, self.size, self.size)


def in_unit_range(images: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Brings float32 values in the range of an image of `dtype` to [0, 1], and clips them."""
    largest = dtype.max if dtype.is_integer else 1
    return tf.clip_by_value(images * (1.0 / largest), 0.0, 1.0)


def _resized(images: tf.Tensor, height, width, antialias: bool = False) -> tf.Tensor:
    images = tf.image.convert_image_dtype(images, tf.float32)
    resized = tf.image.resize(images, (height, width), method="bicubic", antialias=antialias)
    return tf.clip_by_value(resized, 0.0, 1.0)


@keras.saving.register_keras_serializable(package="keras_ssl")
class CenterCrop(AugmentationLayer):
    """Takes the central square of an image and resizes it: the view that evaluation uses.

    Args:
        size: side of the result, in pixels.
        share: side of the central square as a share of the image's shorter side: .875 (224 of 256
            pixels) in the field's protocols, 1 for small images.

    Raises:
        ValueError: if `size` or `share` is out of range.

    Example:
        >>> CenterCrop(224)(np.zeros((500, 375, 3), "uint8")).shape
        TensorShape([224, 224, 3])

    Source: `data_util.py` of google-research/simclr (`CROP_PROPORTION = 0.875`); antialiased here,
    because evaluation shrinks.
    """

    def __init__(self, size: int, share: float = 0.875, **kwargs):
        super().__init__(**kwargs)
        if size < 1:
            raise ValueError(f"`size` must be at least 1 pixel. Received: size={size}")
        if not 0 < share <= 1:
            raise ValueError(f"`share` must lie in (0, 1]. Received: share={share}")
        self.size = size
        self.share = share

    def call(self, images, keys=None, training=False):
        """Returns (…, size, size, channels) float32 images; nothing is random."""
        shape = tf.shape(images)
        height, width = shape[-3], shape[-2]
        side = tf.cast(
            tf.round(tf.cast(tf.minimum(height, width), tf.float32) * self.share), tf.int32
        )
        top, left = (height - side) // 2, (width - side) // 2
        square = images[..., top : top + side, left : left + side, :]
        return _resized(square, self.size, self.size, antialias=True)
