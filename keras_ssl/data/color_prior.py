"""How often each color occurs in the images of a source."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from keras_ssl.data.parallel import IMAGES, with_threads
from keras_ssl.data.source import Source
from keras_ssl.layers import ColorBins, RGBToLab
from keras_ssl.layers.lab import GRAY

_IMAGES = 2000
_SIDE = 64  # pixels: about as many rows and columns of an image are looked at
_LEVELS = 256  # a and b in whole units, from -128 to 127


def color_prior(source: Source, count: int = _IMAGES) -> tuple[float, ...]:
    """Returns the share of each bin of `ColorBins` in the colors of images.

    It is the mean of the soft codes of the pixels. Gray images, which `Colorization` ignores, do not
    count.

    Args:
        source: images with 3 channels.
        count: number of images to look at, at most: spread over the source, or the first of a streamed
            source. Positive.

    Returns:
        262 numbers that are not negative and sum to 1.

    Raises:
        ValueError: if the images do not have 3 channels, or all of those looked at are gray.

    Example:
        ```python
        prior = keras_ssl.data.color_prior(source)
        model = keras_ssl.methods.Colorization(backbone, prior=prior)
        ```

    Source: Zhang et al. 2016, "Colorful Image Colorization", section 2.2 (there
    of ImageNet).
    """
    if source.image_shape[2] != 3:
        raise ValueError(
            "`color_prior` needs images with 3 channels. "
            f"Received: {source.image_shape[2]} in {source.name!r}"
        )
    ab, counts = count_colors(source, count)
    if not len(ab):
        raise ValueError(
            "`color_prior` needs images in color. "
            f"Received: {source.name!r}, in which the images looked at are gray"
        )
    shares = counts @ np.asarray(ColorBins()(ab), np.float64)
    return tuple(float(share) for share in shares / shares.sum())


def count_colors(source: Source, count: int = _IMAGES) -> tuple[np.ndarray, np.ndarray]:
    """Counts the colors in a sample of images, without gray images.

    Args:
        source: images with 3 channels.
        count: see `color_prior`.

    Returns:
        (n, 2) float32 values of a and b in whole units, and the (n,) int64 number of pixels of each.
    """
    to_lab = RGBToLab()
    counts = np.zeros(_LEVELS**2, np.int64)
    for image in _pixel_grids(source, count):
        ab = np.asarray(to_lab(image))[..., 1:].reshape(-1, 2)
        if np.abs(ab).max() > GRAY:
            levels = np.clip(np.round(ab).astype(np.int64) + _LEVELS // 2, 0, _LEVELS - 1)
            counts += np.bincount(levels @ (_LEVELS, 1), minlength=_LEVELS**2)
    found = np.flatnonzero(counts)
    ab = np.stack(np.divmod(found, _LEVELS), axis=1) - _LEVELS // 2
    return ab.astype(np.float32), counts[found]


def _pixel_grids(source: Source, count: int) -> Iterator[np.ndarray]:
    """Yields a grid of pixels of each image, float32 in [0, 1]."""
    if source.random_access:
        chosen = np.linspace(0, len(source) - 1, min(count, len(source))).astype(np.int64)
        read = tf.data.Dataset.from_tensor_slices(chosen).map(source.read, IMAGES)
        images = with_threads(read).as_numpy_iterator()
    else:
        images = (image for image, _ in source.dataset().take(count).as_numpy_iterator())
    for image in images:
        rows, columns = (max(1, side // _SIDE) for side in image.shape[:2])
        pixels = image[rows // 2 :: rows, columns // 2 :: columns]
        largest = np.iinfo(image.dtype).max if image.dtype.kind in "iu" else 1
        yield pixels.astype(np.float32) / largest
