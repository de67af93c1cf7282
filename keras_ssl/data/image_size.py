"""How large an encoded image says it is, read from its first bytes before anything is decoded.

A file of a few kilobytes can decode to gigabytes. All decoders give what the header says, so that
refusing a header bounds the memory.
"""

import tensorflow as tf

MOST_PIXELS = 89_478_485  # what Pillow, too, decodes without a warning: 256 MiB of RGB
_HEADER = 32  # bytes
_JPEG, _PNG, _GIF, _BMP = b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM"


def within_limits(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the bytes of an image file as they are, if its header can be decoded in bounds.

    Args:
        encoded: scalar string; eager, or in a graph.

    Raises:
        tf.errors.InvalidArgumentError: if it is no JPEG, PNG, BMP or GIF file, or says that it has
            more than `MOST_PIXELS` pixels.

    Example:
        >>> within_limits(tf.io.encode_png(np.zeros((4, 6, 1), np.uint8))).dtype
        tf.string
    """
    padded = tf.strings.join([tf.strings.substr(encoded, 0, _HEADER), b"\0" * _HEADER])
    header = tf.io.decode_raw(tf.strings.substr(padded, 0, _HEADER), tf.uint8)
    header = tf.cast(header, tf.int64)

    def begins(word):
        return tf.reduce_all(header[: len(word)] == list(word))

    def number(start, size, little):
        weights = [256**place for place in range(size)]
        return tf.reduce_sum(header[start : start + size] * (weights if little else weights[::-1]))

    def of_jpeg():
        shape = tf.cast(tf.image.extract_jpeg_shape(encoded), tf.int64)
        return shape[0] * shape[1]

    def of_bmp():  # the height of one that begins at the top is negative
        width, height = (
            tf.bitcast(tf.cast(number(s, 4, True), tf.uint32), tf.int32) for s in (18, 22)
        )
        return tf.abs(tf.cast(width, tf.int64) * tf.cast(height, tf.int64))

    pixels = tf.case(
        [
            (begins(_JPEG), of_jpeg),
            (begins(_PNG), lambda: number(16, 4, False) * number(20, 4, False)),
            (begins(_GIF), lambda: number(6, 2, True) * number(8, 2, True)),
            (begins(_BMP), of_bmp),
        ],
        default=lambda: tf.constant(-1, tf.int64),
    )
    known = tf.debugging.Assert(pixels >= 0, ["not the content of a JPEG, PNG, BMP or GIF file"])
    small = tf.debugging.Assert(
        pixels <= MOST_PIXELS, [f"more pixels than {MOST_PIXELS} would be decoded:", pixels]
    )
    # In a graph nothing else makes the decoder wait. Eagerly the error has come already.
    with tf.control_dependencies([check for check in (known, small) if check is not None]):
        return tf.identity(encoded)


def gif_pixels(content: bytes) -> int:
    """Returns the pixels of all frames of a GIF file: its decoder takes all, even for the first.

    Args:
        content: of the file; what is damaged is counted up to the damage.

    Example:
        >>> gif_pixels(b"no GIF")
        0
    """
    if not content.startswith(_GIF) or len(content) < 13:
        return 0
    place, pixels = 13 + _colours(content[10]), 0
    while place + 10 <= len(content):
        if content[place] == 0x2C:  # a frame: its size, colours of its own, width of the codes
            width, height = (
                int.from_bytes(content[place + n : place + n + 2], "little") for n in (5, 7)
            )
            pixels += width * height
            place += 10 + _colours(content[place + 9]) + 1
        elif content[place] == 0x21:
            place += 2
        else:
            break
        while place < len(content) and content[place]:  # pieces, each with its length
            place += 1 + content[place]
        place += 1
    return pixels


def _colours(flags: int) -> int:
    return 3 * 2 ** (flags % 8 + 1) if flags & 0x80 else 0
