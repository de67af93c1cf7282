"""A sample of a source's images, and what it says about all of them: gray images, sizes."""

import numpy as np

from keras_ssl.data.source import Source

_IMAGES = 64
_GRAY_DIFFERENCE = 8 / 255  # between the channels of a gray pixel
_GRAY_PIXELS = 0.99  # share of the pixels of a gray image


def sample_images(source: Source, count: int = _IMAGES) -> list[np.ndarray]:
    """Returns images that are spread over a source; of a streamed source, the first.

    Args:
        source: images.
        count: number of images, at most; positive.

    Returns:
        Arrays (height, width, channels) of the source's type.

    Example:
        >>> len(sample_images(keras_ssl.data.digits("train"), 10))
        10
    """
    if source.random_access:
        chosen = np.linspace(0, len(source) - 1, min(count, len(source))).astype(np.int64)
        return [source.read(index).numpy() for index in chosen]
    return [image for image, _ in source.dataset().take(count).as_numpy_iterator()]


def gray_share(source: Source, count: int = _IMAGES) -> float:
    """Returns the share of gray images in a sample of the images, 0 to 1.

    In a gray image, the three channels differ by at most 8 of 255 in 99% of the pixels, so that
    rounding in a JPEG file does not count as color. Images of one channel are gray.

    Args:
        source: images with 1 or 3 channels.
        count: number of images to look at, at most.

    Raises:
        ValueError: if the images have another number of channels.

    Example:
        >>> gray_share(keras_ssl.data.digits("train"))
        1.0
    """
    channels = source.image_shape[2]
    if channels not in (1, 3):
        raise ValueError(
            "Gray images can be told from images in color if they have 1 or 3 channels. "
            f"Received: {channels} channels in {source.name!r}"
        )
    return float(np.mean([_is_gray(image) for image in sample_images(source, count)]))


def sample_sides(source: Source, count: int = _IMAGES) -> np.ndarray:
    """Returns (height, width) in pixels of each image of a sample, (n, 2) int64.

    Args:
        source: images.
        count: number of images to look at, at most. If all images have one size, none is read and
            there is a single row.

    Example:
        >>> sample_sides(keras_ssl.data.digits("train"))
        array([[8, 8]])
    """
    height, width, _ = source.image_shape
    if height is not None and width is not None:
        return np.array([[height, width]], np.int64)
    return np.array([image.shape[:2] for image in sample_images(source, count)], np.int64)


def _is_gray(image: np.ndarray) -> bool:
    pixels = image.astype(np.float32)
    if image.dtype.kind in "iu":
        pixels /= np.iinfo(image.dtype).max
    difference = pixels.max(axis=-1) - pixels.min(axis=-1)
    return bool(np.mean(difference <= _GRAY_DIFFERENCE) >= _GRAY_PIXELS)
