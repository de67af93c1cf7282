"""Decodes the content of any image file that can be read, in 8 bits, 16 bits or float32.

`keras_ssl.data.verify.decode` decodes JPEG, PNG, BMP and GIF files to 8 bits with operations that
every version of TensorFlow has, for exports. This module adds WebP and JPEG XL, which TensorFlow
2.21 decodes, and what Pillow decodes.
"""

import numpy as np
import tensorflow as tf

from keras_ssl.data.image_header import read_header
from keras_ssl.data.image_size import MOST_PIXELS, check_image_size
from keras_ssl.data.pillow_formats import pillow_decode, readable_extensions
from keras_ssl.data.python_function import python_function

COMMON = ("JPEG", "PNG", "BMP", "GIF")
_COMMON_STARTS = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG", "BMP": b"BM", "GIF": b"GIF8"}
_WEBP, _JXL, _PILLOW, _UNKNOWN = range(4)
_EIGHT_TO_SIXTEEN = 257  # 255 becomes 65,535


def extensions() -> tuple[str, ...]:
    """Returns the extensions of the files that can be read here, in lower case, with a dot."""
    jxl = (".jxl",) if hasattr(tf.io, "decode_jxl") else ()
    return (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", *jxl, *readable_extensions())


def decode_common(
    encoded: tf.Tensor, channels: int, dtype: tf.DType = tf.uint8, exact_gray: bool = True
) -> tf.Tensor:
    """Decodes the content of a JPEG, PNG, BMP or GIF file.

    Args:
        encoded: scalar string.
        channels: 3 for RGB, or 1 for grayscale.
        dtype: uint8; uint16, to which 8-bit files are scaled; or float32, the values as stored.
        exact_gray: whether gray files keep their values in one channel of uint16 or float32. `False`
            multiplies them by 0.9999, as earlier versions did, for runs that started with them.

    Returns:
        (height, width, channels).

    Raises:
        tf.errors.InvalidArgumentError: if the content is not an image, is truncated, or would
            decode to more than 89 million pixels, which is checked before decoding.

    Example:
        >>> decode_common(tf.io.encode_png(np.zeros((4, 6, 1), np.uint16)), 3, tf.uint16).dtype
        tf.uint16
    """
    encoded = check_image_size(encoded)

    # The decoder converts CMYK JPEG, GIF and BMP to RGB, but not to grayscale.
    def eight_bits():
        image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
        return tf.ensure_shape(image, (None, None, 3))

    def sixteen_bits():
        return tf.io.decode_png(encoded, channels=3, dtype=tf.uint16)

    if dtype == tf.uint8:
        return _to_channels(eight_bits(), channels)
    is_deep = _starts_with(encoded, b"\x89PNG") & (
        tf.strings.substr(_padded(encoded), 24, 1) == b"\x10"
    )
    factor = _EIGHT_TO_SIXTEEN if dtype == tf.uint16 else 1
    image = tf.cond(
        is_deep,
        lambda: tf.cast(sixteen_bits(), dtype),
        lambda: tf.cast(eight_bits(), dtype) * tf.cast(factor, dtype),
    )
    return _to_channels(image, channels, exact_gray)


def decode_any(
    encoded: tf.Tensor, channels: int, dtype: tf.DType = tf.uint8, exact_gray: bool = True
) -> tf.Tensor:
    """Decodes the content of any image file that can be read here; see `decode_common`.

    Args:
        encoded: scalar string.
        channels: 3 for RGB, or 1 for grayscale.
        dtype: see `decode_common`.
        exact_gray: see `decode_common`.

    Raises:
        tf.errors.InvalidArgumentError: if the content is not an image, is truncated, has values
            that do not fit `dtype`, or would decode to more than 89 million pixels, which is
            checked before decoding.
    """
    is_common = tf.reduce_any([_starts_with(encoded, s) for s in _COMMON_STARTS.values()])
    return tf.cond(
        is_common,
        lambda: decode_common(encoded, channels, dtype, exact_gray),
        lambda: _decode_other(encoded, channels, dtype, exact_gray),
    )


def _decode_other(
    encoded: tf.Tensor, channels: int, dtype: tf.DType, exact_gray: bool
) -> tf.Tensor:
    route = python_function(_route, [encoded], tf.int64, at_exit=np.int64(_PILLOW))
    route = tf.ensure_shape(route, ())
    with tf.control_dependencies([route]):  # the size is checked before anything is decoded
        encoded = tf.identity(encoded)
    factor = _EIGHT_TO_SIXTEEN if dtype == tf.uint16 else 1

    def webp():
        image = tf.io.decode_webp(encoded)[0]  # (1, height, width, 3 or 4)
        return tf.cast(_three_channels(image), dtype) * tf.cast(factor, dtype)

    def jxl():
        image = tf.io.decode_jxl(encoded)
        return tf.cast(_three_channels(image), dtype) * tf.cast(factor, dtype)

    def pillow():
        image = python_function(
            lambda content: _pillow(content, dtype.as_numpy_dtype),
            [encoded],
            dtype,
            at_exit=np.zeros((1, 1, 3), dtype.as_numpy_dtype),
        )
        return tf.ensure_shape(image, (None, None, 3))

    # TensorFlow 2.20 does not have the two decoders. The numbers of branches must have no gap.
    branches = {
        _PILLOW: pillow,
        _WEBP: webp if hasattr(tf.io, "decode_webp") else pillow,
        _JXL: jxl if hasattr(tf.io, "decode_jxl") else pillow,
    }
    image = tf.switch_case(
        tf.cast(route, tf.int32),
        branches,
        default=lambda: tf.cast(decode_common(encoded, 3), dtype),  # raises
    )
    return _to_channels(tf.ensure_shape(image, (None, None, 3)), channels, exact_gray)


def _route(content: bytes) -> np.int64:
    """Returns which decoder to use. Raises ValueError if there are too many pixels."""
    content = np.asarray(content, object).item()
    header = read_header(content)
    if header is None:
        return np.int64(_UNKNOWN)
    if header.kind in ("WebP", "JPEG XL"):
        if header.height is None or header.width is None:
            raise ValueError(f"{header.kind} file without a size")
        if header.height * header.width > MOST_PIXELS:
            raise ValueError(
                f"more pixels than {MOST_PIXELS} would be decoded: {header.height * header.width}"
            )
    if header.kind == "WebP":
        # TensorFlow 2.21 writes past the end of its memory for animations.
        can_decode = hasattr(tf.io, "decode_webp") and not header.animated
        return np.int64(_WEBP if can_decode else _PILLOW)
    return np.int64(_JXL if header.kind == "JPEG XL" else _PILLOW)


def _pillow(content: bytes, dtype: type) -> np.ndarray:
    """Returns (height, width, 3) values in `dtype`."""
    content = np.asarray(content, object).item()
    header = read_header(content)
    if header is None:
        raise ValueError("not an image file")
    values = pillow_decode(content, header.kind)
    if dtype == np.float32 or values.dtype == dtype:
        return values.astype(dtype)
    if values.dtype == np.uint8:
        return values.astype(dtype) * dtype(_EIGHT_TO_SIXTEEN)
    if values.dtype == np.uint16:
        return (values >> 8).astype(dtype)
    raise ValueError(f"a file of 32-bit values cannot be read as {np.dtype(dtype).name}")


def _three_channels(image: tf.Tensor) -> tf.Tensor:
    """Returns RGB from RGB, RGBA, gray, or gray with transparency."""
    return tf.cond(
        tf.shape(image)[-1] >= 3,
        lambda: image[..., :3],
        lambda: tf.repeat(image[..., :1], 3, axis=-1),
    )


def _to_channels(image: tf.Tensor, channels: int, exact_gray: bool = True) -> tf.Tensor:
    if channels == 3:
        return image
    if image.dtype == tf.uint8 or not exact_gray:
        return tf.image.rgb_to_grayscale(image)  # exact for gray images of 8 bits
    # The weights of `rgb_to_grayscale` add up to 0.9999, which changes deep values. Here, the
    # weights are those of differences, so that equal channels keep their value.
    red, green, blue = tf.split(tf.cast(image, tf.float32), 3, axis=-1)
    gray = red + 0.587 * (green - red) + 0.114 * (blue - red)  # Rec. 601 luma
    return tf.cast(tf.round(gray) if image.dtype.is_integer else gray, image.dtype)


def _padded(encoded: tf.Tensor) -> tf.Tensor:
    return tf.strings.join([encoded, b"\0" * 32])


def _starts_with(encoded: tf.Tensor, start: bytes) -> tf.Tensor:
    return tf.strings.substr(_padded(encoded), 0, len(start)) == start
