"""Checks the size of an encoded image from its header, before decoding it.

A file of a few kilobytes can decode to gigabytes. Decoders return images of the size in the header,
so checking the header bounds the memory.
"""

import tensorflow as tf

MOST_PIXELS = 89_478_485  # the most that Pillow decodes without a warning; 256 MiB of RGB
_HEADER = 32  # bytes
_JPEG, _PNG, _GIF, _BMP = b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM"


def check_image_size(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the bytes of an image file unchanged, after checking the size in its header.

    Works eagerly and in graphs.

    Args:
        encoded: scalar string, the content of the file.

    Raises:
        tf.errors.InvalidArgumentError: if the content is not a JPEG, PNG, BMP or GIF file, or its
            header names more than `MOST_PIXELS` pixels.

    Example:
        >>> check_image_size(tf.io.encode_png(np.zeros((4, 6, 1), np.uint8))).dtype
        tf.string
    """
    padded = tf.strings.join([tf.strings.substr(encoded, 0, _HEADER), b"\0" * _HEADER])
    header = tf.io.decode_raw(tf.strings.substr(padded, 0, _HEADER), tf.uint8)
    header = tf.cast(header, tf.int64)

    def starts_with(prefix):
        return tf.reduce_all(header[: len(prefix)] == list(prefix))

    def integer(start, size, little_endian):
        weights = [256**place for place in range(size)]
        weights = weights if little_endian else weights[::-1]
        return tf.reduce_sum(header[start : start + size] * weights)

    def jpeg_pixels():
        shape = tf.cast(tf.image.extract_jpeg_shape(encoded), tf.int64)
        return shape[0] * shape[1]

    def bmp_pixels():  # the height is negative if the first row is the top one
        width, height = (
            tf.bitcast(tf.cast(integer(s, 4, True), tf.uint32), tf.int32) for s in (18, 22)
        )
        return tf.abs(tf.cast(width, tf.int64) * tf.cast(height, tf.int64))

    pixels = tf.case(
        [
            (starts_with(_JPEG), jpeg_pixels),
            (starts_with(_PNG), lambda: integer(16, 4, False) * integer(20, 4, False)),
            (starts_with(_GIF), lambda: integer(6, 2, True) * integer(8, 2, True)),
            (starts_with(_BMP), bmp_pixels),
        ],
        default=lambda: tf.constant(-1, tf.int64),
    )
    is_image = _check(pixels >= 0, "not the content of a JPEG, PNG, BMP or GIF file")
    is_small = _check(
        pixels <= MOST_PIXELS, f"more pixels than {MOST_PIXELS} would be decoded:", pixels
    )
    # In a graph, only these control dependencies make the decoder wait for the checks. Eagerly,
    # `_check` has already raised, or returned `None`.
    checks = [check for check in (is_image, is_small) if check is not None]
    with tf.control_dependencies(checks):
        return tf.identity(encoded)


def gif_pixels(content: bytes) -> int:
    """Returns the number of pixels in all frames of a GIF file.

    The decoder allocates all frames, even to return only the first.

    Args:
        content: content of the file. A damaged file is counted up to the damage; other content has
            0 pixels.

    Example:
        >>> gif_pixels(b"not a GIF")
        0
    """
    if not content.startswith(_GIF) or len(content) < 13:
        return 0
    place, pixels = 13 + color_table_size(content[10]), 0
    while place + 10 <= len(content):
        if content[place] == 0x2C:  # a frame: its size, its color table, the width of its codes
            width, height = (
                int.from_bytes(content[place + n : place + n + 2], "little") for n in (5, 7)
            )
            pixels += width * height
            place += 10 + color_table_size(content[place + 9]) + 1
        elif content[place] == 0x21:
            place += 2
        else:
            break
        while place < len(content) and content[place]:  # blocks, each after its length
            place += 1 + content[place]
        place += 1
    return pixels


def color_table_size(flags: int) -> int:
    """Returns the size in bytes of the color table that a flags byte announces."""
    return 3 * 2 ** (flags % 8 + 1) if flags & 0x80 else 0


def _check(condition: tf.Tensor, message: str, *values: tf.Tensor) -> tf.Operation | None:
    """Raises InvalidArgumentError with a message; in a graph, returns the operation that does.

    Eagerly, `tf.debugging.Assert` would put the representation of the tensor before the message.
    """
    if not tf.executing_eagerly():
        return tf.debugging.Assert(condition, [message, *values])
    if not condition:
        text = " ".join([message, *(str(value.numpy()) for value in values)])
        raise tf.errors.InvalidArgumentError(None, None, text)
    return None
