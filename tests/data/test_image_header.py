"""Kinds, sizes and bit depths from the headers of image files."""

import base64
import io
import struct

import numpy as np
import pytest
from PIL import Image

from keras_ssl.data.file_headers import read_headers
from keras_ssl.data.image_header import read_header

# 16 x 24 pixels, written by libjxl: a bare codestream, and one in boxes.
JXL = base64.b64decode(
    "/woFAogECAABABQBSygx3TyrpcLDVWEUFJQcFGCk2GEBMBEvZuIciIEYPKDjQgAggBBgAAd/fib8/wd8/QPH/6BsF3"
    "ybAGGblfLSOVVyioBh"
)


def encoded(kind, size=(16, 24), mode="RGB", **options):
    file = io.BytesIO()
    Image.new(mode, size).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True, "comment": b"x" * 60_000}),
        ("PNG", {}),
        ("GIF", {}),
        ("BMP", {}),
        ("WebP", {}),
        ("WebP", {"lossless": True}),
        ("WebP", {"exif": b"x" * 100}),
    ],
)
def test_sizes_that_pillow_wrote(kind, options):
    header = read_header(encoded(kind, **options))
    assert header == (kind, 24, 16, 8, False)


def test_depth_animation_and_upside_down():
    assert read_header(encoded("PNG", mode="I;16")).bits == 16
    frames = [Image.new("RGB", (16, 24), color) for color in ("red", "lime")]
    file = io.BytesIO()
    frames[0].save(file, "WebP", save_all=True, append_images=frames[1:])
    assert read_header(file.getvalue()) == ("WebP", 24, 16, 8, True)
    bmp = bytearray(encoded("BMP"))
    bmp[22:26] = struct.pack("<i", -24)
    assert read_header(bytes(bmp)) == ("BMP", 24, 16, 8, False)


def test_jpeg_xl_with_and_without_boxes():
    assert read_header(JXL) == ("JPEG XL", 24, 16, 8, False)

    def box(kind, content):
        return struct.pack(">I", 8 + len(content)) + kind + content

    start = b"\x00\x00\x00\x0cJXL \r\n\x87\n" + box(b"ftyp", b"jxl \0\0\0\0jxl ")
    extra = box(b"Exif", b"x" * 500)
    assert read_header(start + extra + box(b"jxlc", JXL)) == ("JPEG XL", 24, 16, 8, False)
    parts = box(b"jxlp", bytes(4) + JXL[:20]) + box(b"jxlp", b"\x80\0\0\1" + JXL[20:])
    assert read_header(start + parts) == ("JPEG XL", 24, 16, 8, False)
    assert read_header(start) == ("JPEG XL", None, None, 8, False)


def jxl_of_size(height, width):
    """Returns the start of a codestream with 30-bit sides and default metadata."""
    value, place = 0, 0
    for bits, count in ((0, 1), (3, 2), (height - 1, 30), (0, 3), (3, 2), (width - 1, 30), (1, 1)):
        value |= bits << place
        place += count
    return b"\xff\x0a" + value.to_bytes(16, "little")


def test_large_sides_of_jpeg_xl():
    assert read_header(jxl_of_size(70_000, 50_001))[:3] == ("JPEG XL", 70_000, 50_001)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WebP", "TIFF"])
def test_every_truncation_has_a_header_or_none(kind):
    content = encoded(kind)
    for end in range(min(len(content), 80)):
        header = read_header(content[:end])
        assert header is None or header.kind == kind
    for end in range(len(JXL)):
        read_header(JXL[:end])


def test_other_content_has_no_header():
    for content in (b"", b"GI", b"MZ\x90\x00 a program", b"%PDF-1.7", b"RIFF\0\0\0\0WAVE"):
        assert read_header(content) is None


def test_headers_of_files(tmp_path):
    sizes = [(16, 24), (40, 20), (12, 30)]
    files = []
    for number, size in enumerate(sizes):
        files.append(str(tmp_path / f"{number}.png"))
        Image.new("RGB", size).save(files[-1])
    (tmp_path / "no.png").write_bytes(b"")
    found = read_headers([*files, str(tmp_path / "no.png"), str(tmp_path)])
    np.testing.assert_array_equal(found.heights, [24, 20, 30, 0, 0])
    np.testing.assert_array_equal(found.widths, [16, 40, 12, 0, 0])
    assert found.one_size == (None, None)
    assert found.median_side == 16  # of 16, 20 and 12
    assert found.refused == {str(tmp_path): "not a regular file"}
    assert found.keep(np.array([1])).one_size == (20, 40)
    assert found.dtype == np.uint8
