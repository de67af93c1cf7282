"""Reads image files that TensorFlow cannot decode: TIFF, HEIC, AVIF, and animated WebP.

Pillow decodes one image at a time in Python, and holds Python's lock for a part of that time.
"""

import importlib.util
import io
import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_ssl.data.image_header import Header
from keras_ssl.data.image_size import MOST_PIXELS

_FORMATS = {"TIFF": "TIFF", "HEIF": "HEIF", "AVIF": "AVIF", "WebP": "WEBP"}  # ours: Pillow's
_BITS = {"I;16": 16, "I;16L": 16, "I;16B": 16, "I;16N": 16, "I": 32, "F": 32}


def readable_extensions() -> dict[str, str]:
    """Returns the file extensions that can be read through Pillow here, and their kinds."""
    kinds = {".tif": "TIFF", ".tiff": "TIFF"}
    from PIL import features

    if "avif" in features.modules and features.check("avif"):
        kinds[".avif"] = "AVIF"
    if importlib.util.find_spec("pillow_heif") is not None:
        kinds |= {".heic": "HEIF", ".heif": "HEIF"}
    return kinds


def advice(patterns: Iterable[str]) -> str:
    """Returns how files that cannot be read here become readable, or an empty string.

    Args:
        patterns: extensions with a star, such as "*.heic".
    """
    if {"*.heic", "*.heif"}.intersection(patterns):
        return 'HEIC needs pillow-heif: pip install "keras_ssl[images]"'
    if "*.avif" in patterns:
        return "AVIF needs Pillow 11.3 or newer"
    if "*.jxl" in patterns:
        return "JPEG XL needs TensorFlow 2.21 or newer"
    return ""


def pillow_header(file: str | os.PathLike | bytes, kind: str) -> Header:
    """Returns the header of a file.

    Args:
        file: path, or the content of the file.
        kind: "TIFF", "HEIF", "AVIF" or "WebP".

    Raises:
        ValueError: if the header cannot be read, or names more than `MOST_PIXELS` pixels.
        ImportError: if the file needs a package that is not installed.
    """
    with _opened(file, kind) as image:
        return Header(kind, image.height, image.width, _BITS.get(image.mode, 8))


def pillow_decode(content: bytes, kind: str) -> np.ndarray:
    """Decodes the first image of a file.

    Args:
        content: content of the file.
        kind: see `pillow_header`.

    Returns:
        (height, width, 3): uint8, uint16, or float32 with the values of the file. Transparency is
        dropped. TIFF and HEIC files of three channels with more than 8 bits become 8-bit, as Pillow
        reads them. Photos in HEIC are turned as their header says.

    Raises:
        ValueError: if the file cannot be decoded; the size is checked first.
        ImportError: if the file needs a package that is not installed.

    Example:
        >>> file = io.BytesIO()
        >>> PIL.Image.new("F", (6, 4), 0.5).save(file, "TIFF")
        >>> pillow_decode(file.getvalue(), "TIFF").shape
        (4, 6, 3)
    """
    with _opened(content, kind) as image:
        try:
            bits = _BITS.get(image.mode, 8)
            values = np.asarray(image if bits > 8 else image.convert("RGB"))
        except Exception as error:  # Pillow's plugins raise errors of many types
            raise ValueError(f"damaged {kind} file: {error}") from error
    if bits > 8:
        values = np.repeat(values[..., None], 3, axis=-1)
    return values.astype({8: np.uint8, 16: np.uint16, 32: np.float32}[bits])


def _opened(file: str | os.PathLike | bytes, kind: str) -> Any:
    """Returns an open image whose size was checked and whose pixels were not read."""
    from PIL import Image

    if kind == "HEIF":
        try:
            import pillow_heif
        except ImportError as error:
            raise ImportError(f"{advice(['*.heic'])}. {error}") from error
        pillow_heif.register_heif_opener()
    source = io.BytesIO(file) if isinstance(file, bytes) else file
    try:
        # Only this format: no other decoder of Pillow is given a file from elsewhere.
        image = Image.open(source, formats=[_FORMATS[kind]])
    except Exception as error:
        raise ValueError(f"not a {kind} file that can be read: {error}") from error
    if image.height * image.width > MOST_PIXELS:
        pixels = image.height * image.width
        image.close()
        raise ValueError(f"more pixels than {MOST_PIXELS} would be decoded: {pixels}")
    return image
