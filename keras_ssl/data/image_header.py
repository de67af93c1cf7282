"""Reads kind, size and bit depth of an image from the header of its file, without decoding it."""

import io
import os
from typing import BinaryIO, NamedTuple

_START = 64  # bytes that contain everything but the size of a JPEG and of a boxed JPEG XL file
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers of frames
_JXL_BOX = b"\x00\x00\x00\x0cJXL \r\n\x87\n"
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")


class Header(NamedTuple):
    """What the header of an image file says.

    Args:
        kind: "JPEG", "PNG", "GIF", "BMP", "WebP", "JPEG XL", "TIFF", "HEIF" or "AVIF".
        height: rows of the image; `None` if they are unknown.
        width: columns of the image; `None` if they are unknown.
        bits: bits per channel as stored: 8, 16, or 32 for floats and 32-bit integers.
        animated: whether a WebP file has several frames.
    """

    kind: str
    height: int | None = None
    width: int | None = None
    bits: int = 8
    animated: bool = False


def read_header(file: str | os.PathLike | bytes) -> Header | None:
    """Returns the header of an image file, or `None` if the file is of no known kind.

    Reads JPEG, PNG, GIF, BMP, WebP and JPEG XL headers. Of TIFF, HEIF and AVIF files, only the kind
    is found; `keras_ssl.data.pillow_formats` reads the rest.

    Args:
        file: path, or the content of the file.

    Raises:
        OSError: if the file cannot be read.

    Example:
        >>> read_header(tf.io.encode_png(np.zeros((4, 6, 1), np.uint8)).numpy())
        Header(kind='PNG', height=4, width=6, bits=8, animated=False)
    """
    if isinstance(file, bytes):
        return _read(io.BytesIO(file))
    with open(file, "rb", buffering=4096) as opened:
        return _read(opened)


def _read(file: BinaryIO) -> Header | None:
    start = file.read(_START)
    if start.startswith(b"\xff\xd8\xff"):
        return _jpeg(file)
    if start.startswith(b"\x89PNG"):
        return _sized(
            "PNG", start[20:24], start[16:20], "big", 16 if start[24:25] == b"\x10" else 8
        )
    if start.startswith(b"GIF8"):
        return _sized("GIF", start[8:10], start[6:8], "little")
    if start.startswith(b"BM"):
        height, width = (int.from_bytes(start[n : n + 4], "little", signed=True) for n in (22, 18))
        return Header("BMP", abs(height), abs(width))  # negative if the first row is the top one
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return _webp(start)
    if start.startswith(b"\xff\x0a") or start.startswith(_JXL_BOX):
        return _jxl(file, start)
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return Header("TIFF")
    if start[4:8] == b"ftyp":
        brands = {start[n : n + 4] for n in range(8, min(len(start), start[3]), 4)}
        if brands.intersection(_AVIF_BRANDS):
            return Header("AVIF")
        if brands.intersection(_HEIF_BRANDS):
            return Header("HEIF")
    return None


def _sized(kind: str, height: bytes, width: bytes, order, bits: int = 8) -> Header:
    return Header(kind, int.from_bytes(height, order), int.from_bytes(width, order), bits)


def _jpeg(file: BinaryIO) -> Header:
    file.seek(2)
    while len(marker := file.read(4)) == 4 and marker[0] == 0xFF:
        if marker[1] == 0xFF:  # fill byte
            file.seek(-3, os.SEEK_CUR)
        elif marker[1] in _JPEG_SIZES:
            size = file.read(5)  # bits, height, width
            return _sized("JPEG", size[1:3], size[3:5], "big")
        else:
            length = int.from_bytes(marker[2:], "big")
            if length < 2:
                break
            file.seek(length - 2, os.SEEK_CUR)
    return Header("JPEG")


def _webp(start: bytes) -> Header:
    """Source: RFC 9649, sections 2.5 to 2.7."""
    chunk, data = start[12:16], start[20:]
    if chunk == b"VP8X":
        width, height = (int.from_bytes(data[n : n + 3], "little") + 1 for n in (4, 7))
        return Header("WebP", height, width, animated=bool(data[0] & 2) if data else False)
    if chunk == b"VP8L":
        bits = int.from_bytes(data[1:5], "little")
        return Header("WebP", (bits >> 14) % 2**14 + 1, bits % 2**14 + 1)
    if chunk == b"VP8 ":
        width, height = (int.from_bytes(data[n : n + 2], "little") % 2**14 for n in (6, 8))
        return Header("WebP", height, width)
    return Header("WebP")


def _jxl(file: BinaryIO, start: bytes) -> Header:
    """Source: ISO/IEC 18181-1, annex D (headers), and 18181-2, section 4 (boxes)."""
    place: int | None = 0 if start.startswith(b"\xff\x0a") else _jxl_codestream(file)
    if place is None:
        return Header("JPEG XL")
    file.seek(place + 2)
    bits = _Bits(file.read(_START))
    height, width = _jxl_size(bits)
    depth = 8
    if not bits.take(1):  # not all metadata have their defaults
        transposed = False
        if bits.take(1):
            transposed = bits.take(3) >= 4  # orientation - 1, as in EXIF
            if bits.take(3):  # intrinsic size, preview or animation: the depth is not read
                return Header("JPEG XL", *((width, height) if transposed else (height, width)))
        if not bits.take(1):  # integers
            choice = bits.take(2)
            depth = (8, 10, 12)[choice] if choice < 3 else 1 + bits.take(6)
        if transposed:
            height, width = width, height
    return Header("JPEG XL", height, width, 8 if depth <= 8 else 16)


def _jxl_size(bits: "_Bits") -> tuple[int, int]:
    small = bits.take(1)

    def side():
        return 8 * (1 + bits.take(5)) if small else 1 + bits.take((9, 13, 18, 30)[bits.take(2)])

    height = side()
    ratio = bits.take(3)
    if ratio == 0:
        return height, side()
    over, under = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
    return height, height * over // under


def _jxl_codestream(file: BinaryIO) -> int | None:
    """Returns where the codestream starts in a file of boxes."""
    place = 0
    for _ in range(1000):  # boxes of size 0 or a damaged file must not loop forever
        file.seek(place)
        header = file.read(16)
        size, kind, data = int.from_bytes(header[:4], "big"), header[4:8], 8
        if size == 1:
            size, data = int.from_bytes(header[8:16], "big"), 16
        if kind == b"jxlc":
            return place + data
        if kind == b"jxlp":
            return place + data + 4  # after the number of the part
        if size < data or len(header) < 8:
            return None
        place += size
    return None


class _Bits:
    """Bits of a JPEG XL header, least significant first; zeros after its end."""

    def __init__(self, content: bytes):
        self._bits = int.from_bytes(content, "little")

    def take(self, count: int) -> int:
        value = self._bits % 2**count
        self._bits >>= count
        return value
