"""Untrusted image files: decompression bombs, wrong types and truncated files are skipped."""

import io
import os
import resource
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_ssl import data
from keras_ssl.data.image_size import MOST_PIXELS, check_image_size, gif_pixels
from keras_ssl.data.verify import decode

SIDE = 50_000


def encoded(kind, size=(6, 4), **options):
    file = io.BytesIO()
    Image.new("RGB", size, (200, 30, 60)).save(file, kind, **options)
    return file.getvalue()


def png_bomb(side=SIDE):
    """Returns a complete PNG file of 50,000 x 50,000 black pixels, which compresses well."""

    def chunk(name, content):
        checksum = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)

    packer = zlib.compressobj(9)
    row = bytes(1 + side // 8)  # one bit for a pixel
    pixels = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def with_size(kind, width, height):
    """Returns an image with a wrong size in its header."""
    content = bytearray(encoded(kind))
    if kind == "PNG":
        content[16:24] = struct.pack(">II", width, height)
    elif kind == "BMP":
        content[18:26] = struct.pack("<ii", width, height)
    elif kind == "GIF":
        content[6:10] = struct.pack("<HH", width, height)
    else:
        place = content.index(b"\xff\xc0") + 5
        content[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def gif(frames, side):
    """Returns an animation that repeats one small frame."""
    first = io.BytesIO()
    Image.new("P", (side, side)).save(first, "GIF")
    content = first.getvalue()
    start = 13 + 3 * 2 ** (content[10] % 8 + 1)
    return content[:start] + content[start:-1] * frames + b";"


KINDS = ("JPEG", "PNG", "GIF", "BMP")


@pytest.mark.parametrize("kind", KINDS)
def test_ordinary_images_pass(kind):
    content = encoded(kind)
    assert check_image_size(tf.constant(content)).numpy() == content
    assert tf.function(check_image_size)(tf.constant(content)).numpy() == content
    assert decode(tf.constant(content), 3).shape == (4, 6, 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(SIDE, SIDE), (9_460, 9_460)])
def test_headers_with_too_many_pixels_are_refused(kind, size):
    content = tf.constant(with_size(kind, *size))
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"more pixels than {MOST_PIXELS}"):
        check_image_size(content)
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"more pixels than {MOST_PIXELS}"):
        tf.function(lambda: decode(content, 3))()


def test_the_largest_allowed_size_passes():
    check_image_size(tf.constant(with_size("PNG", 1, MOST_PIXELS)))
    check_image_size(tf.constant(with_size("BMP", 4, -4)))  # the first row is the top one
    with pytest.raises(tf.errors.InvalidArgumentError, match="more pixels"):
        check_image_size(tf.constant(with_size("BMP", 100_000, -100_000)))


@pytest.mark.parametrize("content", [b"", b"GI", b"MZ\x90\x00 a program", b"<svg/>", b"%PDF-1.7"])
def test_other_content_is_refused(content):
    with pytest.raises(tf.errors.InvalidArgumentError, match="not the content of a JPEG"):
        check_image_size(tf.constant(content))


def test_the_frames_of_a_gif_are_counted():
    assert gif_pixels(encoded("GIF")) == 24
    assert gif_pixels(gif(7, 100)) == 70_000
    assert decode(tf.constant(gif(7, 100)), 3).shape == (100, 100, 3)
    for end in range(0, 200, 7):
        assert gif_pixels(gif(7, 100)[:end]) <= 70_000
    frames = [Image.new("RGB", (6, 4), (n, n, n)) for n in (0, 90, 180)]
    content = encoded("GIF", save_all=True, append_images=frames)
    with Image.open(io.BytesIO(content)) as image:
        assert image.n_frames == 4
    assert 24 <= gif_pixels(content) <= 4 * 24


def test_a_folder_of_bad_files_is_read_in_bounded_memory(tmp_path, caplog):
    os.mkfifo(tmp_path / "pipe.png")
    with (tmp_path / "sparse.bmp").open("wb") as file:
        file.truncate(2**29)
    files = {
        "bomb.png": png_bomb(),
        "claims.jpg": with_size("JPEG", SIDE, SIDE),
        "frames.gif": gif(400, 900),  # 324 million pixels in a few hundred kilobytes
        "hidden.png": gif(400, 900),
        "program.jpg": b"MZ\x90\x00" + bytes(1000),
        "page.png": b"<html><script>alert()</script></html>",
        "half.png": encoded("PNG", (60, 60))[:-40],
        "half.jpg": encoded("JPEG", (60, 60))[:-40],
        "good.png": encoded("PNG"),
        "png_in_truth.jpg": encoded("PNG"),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert len(files["bomb.png"]) < 2**20

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB
    source = data.image_folder(tmp_path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200 * 1024  # the PNG alone would take 7,500 MB
    reasons = {os.path.basename(file): reason for file, reason in source.skipped.items()}
    assert set(reasons) == {*files, "pipe.png", "sparse.bmp"} - {"good.png", "png_in_truth.jpg"}
    assert reasons["pipe.png"] == "not a regular file"
    assert reasons["sparse.bmp"] == "file of 536870912 bytes, more than 268435456"
    for name in ("bomb.png", "claims.jpg"):
        assert f"more pixels than {MOST_PIXELS} would be decoded" in reasons[name]
    for name in ("frames.gif", "hidden.png"):
        assert "GIF of 324000000 pixels in all its frames" in reasons[name]
    for name in ("program.jpg", "page.png"):
        assert "not the content of a JPEG, PNG, BMP or GIF file" in reasons[name]
    assert "bomb.png: " in caplog.text
    assert len(source) == 2
    np.testing.assert_array_equal(source.read(0), source.read(1))  # by content, not by name


def test_without_verification_a_bomb_is_refused_when_it_is_read(tmp_path):
    (tmp_path / "bomb.png").write_bytes(with_size("PNG", SIDE, SIDE))
    source = data.image_folder(tmp_path, verify=False)
    with pytest.raises(tf.errors.InvalidArgumentError, match="more pixels than"):
        source.read(0)
