"""Formats beyond JPEG, PNG, BMP and GIF, bit depths, and what a folder does not read."""

import io
import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, features

from keras_ssl.data.decoding import decode_any, extensions
from keras_ssl.data.image_folder import image_folder
from keras_ssl.data.image_size import MOST_PIXELS
from tests.data.test_image_header import JXL, jxl_of_size

# Eagerly, errors in Python stay what they are.
ERRORS = (tf.errors.InvalidArgumentError, ValueError)
SIXTEEN = np.linspace(0, 65535, 24 * 16).reshape(24, 16).astype(np.uint16)
needs_avif = pytest.mark.skipif(
    "avif" not in features.modules or not features.check("avif"), reason="Pillow without AVIF"
)
needs_jxl = pytest.mark.skipif(not hasattr(tf.io, "decode_jxl"), reason="TensorFlow before 2.21")


def smooth():
    y, x = np.mgrid[:24, :16]
    return np.stack([8 * x, 6 * y, 4 * (x + y)], axis=-1).clip(0, 255).astype(np.uint8)


def encoded(values, kind, mode=None, **options):
    file = io.BytesIO()
    image = Image.fromarray(values)
    (image.convert(mode) if mode else image).save(file, kind, **options)
    return tf.constant(file.getvalue())


def decode_in_graph(content, channels, dtype):
    function = tf.function(lambda content: decode_any(content, channels, dtype), autograph=False)
    return function(content).numpy()


@pytest.mark.parametrize(
    ("kind", "mode", "options", "error"),
    [
        ("PNG", None, {}, 0),
        ("WebP", None, {"lossless": True}, 0),
        ("WebP", None, {"quality": 95}, 16),
        ("WebP", "RGBA", {"lossless": True}, 0),
        ("TIFF", None, {}, 0),
        ("TIFF", None, {"compression": "tiff_lzw"}, 0),
        pytest.param("AVIF", None, {"quality": 95}, 16, marks=needs_avif),
    ],
)
def test_pixels_are_those_that_were_written(kind, mode, options, error):
    content = encoded(smooth(), kind, mode, **options)
    for decode in (decode_any, decode_in_graph):
        image = np.asarray(decode(content, 3, tf.uint8))
        assert image.dtype == np.uint8
        assert np.abs(image.astype(int) - smooth()).max() <= error
    deep = decode_any(content, 3, tf.uint16).numpy()
    np.testing.assert_array_equal(deep, image.astype(np.uint16) * 257)


@needs_jxl
def test_jpeg_xl():
    for decode in (decode_any, decode_in_graph):
        np.testing.assert_array_equal(decode(tf.constant(JXL), 3, tf.uint8), smooth())


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits(kind):
    content = encoded(SIXTEEN, kind)
    expected = np.repeat(SIXTEEN[..., None], 3, axis=-1)
    np.testing.assert_array_equal(decode_any(content, 3, tf.uint16), expected)
    np.testing.assert_array_equal(decode_any(content, 3, tf.uint8), expected >> 8)
    np.testing.assert_array_equal(decode_any(content, 3, tf.float32), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("dtype", [tf.uint16, tf.float32])
def test_one_channel_of_a_deep_gray_file_has_its_values(kind, dtype):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    image = decode_in_graph(encoded(values, kind), 1, dtype)
    np.testing.assert_array_equal(image, values[..., None])


def test_one_channel_of_deep_colors_is_their_luma():
    colors = np.random.default_rng(0).integers(0, 65536, (9, 7, 3)).astype(np.uint16)
    expected = colors @ [0.299, 0.587, 0.114]
    content = tf.io.encode_png(colors)
    gray = decode_any(content, 1, tf.uint16)[..., 0]
    assert np.abs(gray.numpy() - expected).max() <= 0.51  # half a unit of rounding
    np.testing.assert_allclose(decode_any(content, 1, tf.float32)[..., 0], expected, rtol=1e-6)


def test_runs_of_earlier_versions_read_deep_gray_files_as_before(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(SIXTEEN, "PNG").numpy())
    now, before = image_folder(tmp_path, 1), image_folder(tmp_path, 1, rules=2)
    np.testing.assert_array_equal(now.read(0)[..., 0], SIXTEEN)
    old = tf.image.rgb_to_grayscale(np.repeat(SIXTEEN[..., None], 3, axis=-1))
    for source in (before, before.subset([0])):
        np.testing.assert_array_equal(source.read(0), old)
    assert now.fingerprint() != before.fingerprint()


def test_float_tiff_keeps_its_values(tmp_path):
    values = np.linspace(-3, 900, 24 * 16).reshape(24, 16).astype(np.float32)
    (tmp_path / "a.tif").write_bytes(encoded(values, "TIFF").numpy())
    (tmp_path / "b.tif").write_bytes(encoded(SIXTEEN, "TIFF").numpy())
    source = image_folder(tmp_path)
    assert source.dtype == np.float32
    np.testing.assert_array_equal(source.read(0)[..., 1], values)
    np.testing.assert_array_equal(source.read(1)[..., 1], SIXTEEN)
    with pytest.raises(ERRORS, match="cannot be read as uint8"):
        decode_any(encoded(values, "TIFF"), 3, tf.uint8)


def test_animated_webp_becomes_its_first_frame():
    """TensorFlow 2.21 damages its memory when it decodes one."""
    frames = [Image.new("RGB", (16, 24), color) for color in ("red", "lime", "blue")]
    file = io.BytesIO()
    frames[0].save(file, "WebP", save_all=True, append_images=frames[1:], lossless=True)
    image = decode_any(tf.constant(file.getvalue()), 3)
    np.testing.assert_array_equal(image, np.broadcast_to([255, 0, 0], (24, 16, 3)))


def test_headers_with_too_many_pixels_are_refused():
    webp = bytearray(encoded(smooth(), "WebP", exif=b"x" * 99).numpy())
    webp[24:30] = b"\xff\xff\xff\xff\xff\xff"  # 16,777,216 x 16,777,216 pixels
    for content in (bytes(webp), jxl_of_size(20_000, 20_000) + bytes(100)):
        with pytest.raises(ERRORS, match=f"more pixels than {MOST_PIXELS}"):
            decode_any(tf.constant(content), 3)


def test_a_folder_reads_them_all_and_counts_the_rest(tmp_path):
    kinds = {"a.webp": "WebP", "b.tiff": "TIFF", "c.TIF": "TIFF", "d.png": "PNG"}
    for name, kind in kinds.items():
        (tmp_path / name).write_bytes(encoded(smooth(), kind, lossless=True).numpy())
    for name in ("e.raw", "f.raw", "notes.txt", ".hidden"):
        (tmp_path / name).write_bytes(b"no image")
    source = image_folder(tmp_path)
    assert [os.path.basename(file) for file in source.files] == [
        "a.webp",
        "b.tiff",
        "c.TIF",
        "d.png",
    ]
    assert source.image_shape == (24, 16, 3)
    for image, _ in source.dataset():
        np.testing.assert_array_equal(image, smooth())
    assert repr(source).endswith(
        "4 images; 2 TIFF decoded by Pillow, which is slower; not read: 2 *.raw, 1 *.txt>"
    )


def test_heic_without_its_package_is_named(tmp_path):
    if ".heic" in extensions():
        pytest.skip("pillow-heif is installed")
    (tmp_path / "a.png").write_bytes(encoded(smooth(), "PNG").numpy())
    (tmp_path / "b.heic").write_bytes(b"")
    expected = 'not read: 1 *.heic; HEIC needs pillow-heif: pip install "keras_ssl[images]">'
    assert repr(image_folder(tmp_path)).endswith(expected)


@pytest.mark.parametrize("name", ["half.webp", "half.tif", "half.jxl"])
def test_damaged_files_are_skipped(tmp_path, name):
    (tmp_path / "good.png").write_bytes(encoded(smooth(), "PNG").numpy())
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    kinds = {"half.webp": "WebP", "half.tif": "TIFF"}
    whole = encoded(noise, kinds[name]).numpy() if name in kinds else JXL
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    if os.path.splitext(name)[1] not in extensions():
        pytest.skip(f"{name} cannot be read here")
    source = image_folder(tmp_path)
    assert len(source) == 1
    [reason] = source.skipped.values()
    assert "Traceback" not in reason
    assert reason


def test_one_size_several_sizes_and_their_median(tmp_path):
    for number, size in enumerate([(16, 24), (16, 24), (60, 40)]):
        Image.new("RGB", size).save(tmp_path / f"{number}.png")
    mixed = image_folder(tmp_path)
    assert (mixed.image_shape, mixed.typical_side) == ((None, None, 3), 16)
    same = mixed.part(np.array([0, 1]), None, None, "two")
    assert (same.image_shape, same.typical_side) == ((24, 16, 3), 16)
    unchecked = image_folder(tmp_path, verify=False)
    assert (unchecked.image_shape, unchecked.typical_side) == ((None, None, 3), 16)


def test_the_fingerprint_is_that_of_earlier_versions(tmp_path):
    for number in range(3):
        Image.fromarray(smooth() + number).save(tmp_path / f"{number}.png")
    now, before = (image_folder(tmp_path, rules=rules) for rules in (2, 1))
    assert now.image_shape != before.image_shape
    assert now.fingerprint() == before.fingerprint()
    assert now.subset([0, 2]).fingerprint() == before.subset([0, 2]).fingerprint()
