"""Crops: the random resized crop for pretraining and the centre crop for evaluation."""

import math

import keras
import tensorflow as tf

from keras_ssl.augment.bicubic import bicubic_weights
from keras_ssl.augment.layer import AugmentationLayer, rescale

_ATTEMPTS = 10


@keras.saving.register_keras_serializable(package="keras_ssl")
class RandomCrop(AugmentationLayer):
    """Crops a random region of an image and resizes it to a square with bicubic interpolation.

    The region's area, as a fraction of the image, is uniform in `area`. Its aspect ratio is log-uniform
    in `aspect`, and its position is uniform. If none of ten attempts fits into the image, the largest
    central region with an aspect ratio in `aspect` is used, as in torchvision. With `training=False`
    the entire image is resized.

    Args:
        size: side of the output, in pixels.
        area: (low, high) range of the region's fraction of the image, within (0, 1]: (0.08, 1) in
            SimCLR and BYOL, (0.2, 1) in MoCo.
        aspect: (low, high) range of width / height.
        seed: see `AugmentationLayer`, also for the call arguments.

    Raises:
        ValueError: if `size`, `area` or `aspect` is out of range.

    Example:
        >>> RandomCrop(32)(np.zeros((4, 48, 64, 3), "uint8")).shape
        TensorShape([4, 32, 32, 3])

    Source: Chen et al. 2020 (SimCLR), appendix A; bicubic without antialiasing as in `data_util.py`
    of google-research/simclr.
    """

    draws = 2 * _ATTEMPTS + 2  # area and aspect of each attempt, and the position

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
        """Returns (batch, 4) int32 regions to crop: top, left, height, width, in pixels.

        Args:
            numbers: (batch, 22) float32 numbers, uniform in [0, 1).
            height: height of the images, a number or a scalar tensor.
            width: width of the images, a number or a scalar tensor.
        """
        # In float64, because sides are rounded to pixels: a compiler that fuses a product and a sum
        # changes the last bit of a float32, which could change a side by a pixel.
        numbers = tf.cast(numbers, tf.float64)
        whole_height, whole_width = tf.cast(height, tf.float64), tf.cast(width, tf.float64)
        area = rescale(numbers[:, :_ATTEMPTS], *self.area) * whole_height * whole_width
        log_aspect = rescale(
            numbers[:, _ATTEMPTS : 2 * _ATTEMPTS],
            math.log(self.aspect[0]),
            math.log(self.aspect[1]),
        )
        aspect = tf.exp(log_aspect)
        heights = tf.round(tf.sqrt(area / aspect))  # (batch, attempts)
        widths = tf.round(tf.sqrt(area * aspect))
        fits = (heights >= 1) & (heights <= whole_height) & (widths >= 1) & (widths <= whole_width)
        first = tf.argmax(tf.cast(fits, tf.int32), axis=1)  # the first attempt that fits
        box_height = tf.gather(heights, first, batch_dims=1)
        box_width = tf.gather(widths, first, batch_dims=1)

        fallback_aspect = tf.clip_by_value(whole_width / whole_height, *self.aspect)
        fallback_height = tf.round(tf.minimum(whole_height, whole_width / fallback_aspect))
        fallback_width = tf.round(tf.minimum(whole_width, whole_height * fallback_aspect))
        found = tf.reduce_any(fits, axis=1)
        box_height = tf.where(found, box_height, fallback_height)
        box_width = tf.where(found, box_width, fallback_width)
        # Positions are uniform; the fallback is central.
        place = tf.where(found[:, None], numbers[:, -2:], tf.constant(0.5, tf.float64))
        top = tf.floor(place[:, 0] * (whole_height - box_height + 1))
        left = tf.floor(place[:, 1] * (whole_width - box_width + 1))
        return tf.cast(tf.stack([top, left, box_height, box_width], axis=1), tf.int32)

    def transform(self, images, numbers):
        """Crops and resizes a different region of each image."""
        height, width = tf.unstack(tf.shape(images)[1:3])  # may be unknown when the graph is built
        boxes = tf.cast(self.boxes(numbers, height, width), tf.float32)
        rows = bicubic_weights(boxes[:, 0], boxes[:, 2], height, self.size)
        columns = bicubic_weights(boxes[:, 1], boxes[:, 3], width, self.size)
        # Interpolation with different weights per image, as two batched matrix products.
        crops = tf.einsum("bij,bjwc->biwc", rows, images)
        crops = tf.einsum("bij,bhjc->bhic", columns, crops)
        return tf.clip_by_value(crops, 0.0, 1.0)  # bicubic weights overshoot

    def crop_one(self, image: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        """Does the same to one (height, width, channels) image of any size, given (1, 22) numbers."""
        shape = tf.shape(image)
        box = self.boxes(numbers, shape[0], shape[1])[0]
        return to_unit_range(self.resize_region(image, box), image.dtype)

    def resize_region(self, image: tf.Tensor, box: tf.Tensor) -> tf.Tensor:
        """Crops the region (top, left, height, width) of one image and resizes it.

        Returns:
            (size, size, channels) float32 in the image's value range, such as 0 to 255. Bicubic
            interpolation may overshoot this range.
        """
        top, left, height, width = tf.unstack(box)
        region = image[top : top + height, left : left + width]
        return tf.image.resize(region, (self.size, self.size), method="bicubic")

    def unchanged(self, images):
        """Resizes the entire images."""
        return _resize(images, self.size, self.size)


def to_unit_range(images: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Scales float32 pixels from the value range of `dtype` to [0, 1], and clips them."""
    largest = dtype.max if dtype.is_integer else 1
    return tf.clip_by_value(images * (1.0 / largest), 0.0, 1.0)


def _resize(images: tf.Tensor, height, width, antialias: bool = False) -> tf.Tensor:
    images = tf.image.convert_image_dtype(images, tf.float32)
    resized = tf.image.resize(images, (height, width), method="bicubic", antialias=antialias)
    return tf.clip_by_value(resized, 0.0, 1.0)


@keras.saving.register_keras_serializable(package="keras_ssl")
class CenterCrop(AugmentationLayer):
    """Crops the central square of an image and resizes it, for evaluation.

    Args:
        size: side of the output, in pixels.
        share: side of the central square as a fraction of the image's shorter side: 0.875 (224 of 256
            pixels) in standard protocols, 1 for small images.

    Raises:
        ValueError: if `size` or `share` is out of range.

    Example:
        >>> CenterCrop(224)(np.zeros((500, 375, 3), "uint8")).shape
        TensorShape([224, 224, 3])

    Source: `data_util.py` of google-research/simclr (`CROP_PROPORTION = 0.875`). Here resizing is
    antialiased, because evaluation usually downscales images.
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
        """Returns (…, size, size, channels) float32 images; there is no randomness."""
        shape = tf.shape(images)
        height, width = shape[-3], shape[-2]
        side = tf.cast(
            tf.round(tf.cast(tf.minimum(height, width), tf.float32) * self.share), tf.int32
        )
        top, left = (height - side) // 2, (width - side) // 2
        square = images[..., top : top + side, left : left + side, :]
        return _resize(square, self.size, self.size, antialias=True)
