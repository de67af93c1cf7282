"""The default size of views, from the sizes of the images."""

# The side of ImageNet crops in every reference. Larger views are a choice: they cost more memory.
LARGEST_DEFAULT = 224
_STEP = 8  # a median is rounded down to a multiple, so that networks halve the size evenly


def default_image_size(
    sides: tuple[int | None, int | None], typical_side: int | None = None
) -> tuple[int, str | None]:
    """Returns the side of the views, and the reason if it is not the size of the images.

    Args:
        sides: (height, width) of the images in pixels; `None` where they differ.
        typical_side: median of the shorter sides of the images in pixels; `None` if unknown.

    Example:
        >>> default_image_size((32, 32))
        (32, None)
        >>> default_image_size((None, None), 90)[0]
        88
    """
    height, width = sides
    change = "`image_size` (--image-size) sets another size."
    if height is not None and height == width and height <= LARGEST_DEFAULT:
        return height, None
    if height is not None and width is not None:
        size = _rounded(min(height, width))
        return (
            size,
            f"Views have {size} pixels, because the images are {height} x {width}. {change}",
        )
    if typical_side is None:
        return LARGEST_DEFAULT, (
            f"Views have {LARGEST_DEFAULT} pixels, because the sizes of the images are unknown. "
            + change
        )
    size = _rounded(typical_side)
    return size, (
        f"Views have {size} pixels, because the images have different sizes: the median of their "
        f"shorter sides is {typical_side} pixels. {change}"
    )


def _rounded(side: int) -> int:
    side = min(side, LARGEST_DEFAULT)
    return side - side % _STEP if side >= _STEP else side
