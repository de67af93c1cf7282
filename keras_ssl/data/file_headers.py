"""Reads the headers of many image files in parallel: their sizes, kinds and bit depths."""

import os
import stat
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from keras_ssl.data.image_header import Header, read_header
from keras_ssl.data.pillow_formats import pillow_header

_THREADS = 16
_MAX_FILE_BYTES = 2**28  # each file is read into memory at once
_NOT_SIZED = ("TIFF", "HEIF", "AVIF")  # kinds whose size Pillow reads


@dataclass(frozen=True)
class FileHeaders:
    """The headers of image files.

    Args:
        heights: (n,) rows of each image, 0 if unknown.
        widths: (n,) columns of each image, 0 if unknown.
        bits: (n,) bits per channel: 8, 16 or 32; 0 if unknown.
        kinds: kind of each file, such as "PNG"; "" if unknown.
        refused: maps each file that must not be read to the reason, such as a pipe.
    """

    heights: np.ndarray
    widths: np.ndarray
    bits: np.ndarray
    kinds: np.ndarray
    refused: dict[str, str]

    def keep(self, kept: np.ndarray) -> "FileHeaders":
        """Returns the headers of some files, (n,) booleans or indices."""
        parts = (self.heights, self.widths, self.bits, self.kinds)
        heights, widths, bits, kinds = (part[kept] for part in parts)
        return FileHeaders(heights, widths, bits, kinds, self.refused)

    @property
    def one_size(self) -> tuple[int | None, int | None]:
        """(height, width) if all images have the same size, otherwise (`None`, `None`)."""
        height, width = int(self.heights[0]), int(self.widths[0])
        same = (self.heights == height).all() and (self.widths == width).all()
        return (height, width) if same and height and width else (None, None)

    @property
    def median_side(self) -> int | None:
        """Median of the shorter sides, in pixels; `None` if no size is known."""
        sides = np.minimum(self.heights, self.widths)
        return int(np.median(sides[sides > 0])) if (sides > 0).any() else None

    @property
    def dtype(self) -> np.dtype:
        """uint8; uint16 if any file has 16 bits; float32 if any has 32."""
        deepest = int(self.bits.max(initial=8))
        return np.dtype({8: "uint8", 16: "uint16", 32: "float32"}[deepest])

    @property
    def kind_counts(self) -> Counter[str]:
        """Number of files of each kind."""
        return Counter(self.kinds.tolist())


def read_headers(files: Sequence[str]) -> FileHeaders:
    """Returns the headers of files.

    A file whose header cannot be read has an unknown size and kind. Decoding reports the reason.

    Args:
        files: paths.

    Example:
        >>> read_headers(["cat.png", "dog.jpg"]).one_size
        (32, 32)
    """
    heights, widths = np.zeros((2, len(files)), np.int32)
    bits = np.zeros(len(files), np.int8)
    kinds = np.full(len(files), "", object)
    refused = {}
    with ThreadPoolExecutor(_THREADS) as pool:  # network disks are slow, but serve many at once
        for number, found in enumerate(pool.map(_read, files, chunksize=64)):
            if isinstance(found, str):
                refused[files[number]] = found
            elif found is not None:
                heights[number], widths[number] = found.height or 0, found.width or 0
                bits[number], kinds[number] = found.bits, found.kind
    return FileHeaders(heights, widths, bits, kinds, refused)


def _read(file: str) -> Header | str | None:
    """Returns the header of a file, or why the file must not be read at all."""
    try:
        status = os.stat(file)
        if not stat.S_ISREG(status.st_mode):
            return "not a regular file"  # reading a pipe would block
        if status.st_size > _MAX_FILE_BYTES:
            return f"file of {status.st_size} bytes, more than {_MAX_FILE_BYTES}"
        header = read_header(file)
        if header is not None and header.kind in _NOT_SIZED:
            return pillow_header(file, header.kind)
        return header
    except (OSError, ValueError, ImportError):
        return None
