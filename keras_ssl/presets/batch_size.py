"""The default batch size for a number of images."""

LARGEST_DEFAULT = 256  # SimCLR's smallest batch (Chen et al. 2020, figure 9) and MoCo's


def default_batch_size(images: int, parts: int = 1) -> int:
    """Returns the largest power of two, up to 256, that is not larger than the data set.

    Args:
        images: number of training images; 0 if unknown, which gives 256.
        parts: number of equal parts into which a batch is divided, such as one for each device. The
            power of two is rounded down to a multiple of it.

    Example:
        >>> default_batch_size(200), default_batch_size(50_000), default_batch_size(1000, parts=3)
        (128, 256, 255)
    """
    largest = min(LARGEST_DEFAULT, images or LARGEST_DEFAULT)
    power = 1 << (largest.bit_length() - 1)
    return max(parts, power // parts * parts)


def batch_size_error(batch_size: int, images: int, name: str, parts: int = 1) -> ValueError:
    """Returns the error for a batch that is larger than the data set. It proposes a batch size.

    Args:
        batch_size: the batch size that was chosen.
        images: number of training images.
        name: name of the data set.
        parts: number of equal parts into which a batch is divided.
    """
    return ValueError(
        "`batch_size` must not be larger than the data set. "
        f"Received: batch_size={batch_size}, and {images} images in {name!r}. "
        f"A batch size that fits: {default_batch_size(images, parts)}"
    )
