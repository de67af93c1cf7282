"""HEIC files, which Pillow decodes with the package pillow-heif (extra `images`)."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_ssl import data
from keras_ssl.data.decoding import decode_any
from keras_ssl.data.image_header import Header, read_header
from keras_ssl.data.pillow_formats import pillow_decode, pillow_header
from tests.command_line import call
from tests.data.test_decoding import ERRORS, decode_in_graph, smooth

pillow_heif = pytest.importorskip("pillow_heif")
LOSSLESS = {"quality": -1, "chroma": 444}
ROUNDING = 1  # of the conversion to YCbCr and back


@pytest.fixture(autouse=True)
def opener():
    pillow_heif.register_heif_opener()


def encoded(values, mode=None, **options):
    file = io.BytesIO()
    image = Image.fromarray(values)
    (image.convert(mode) if mode else image).save(file, "HEIF", **LOSSLESS, **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", [None, "L", "LA", "RGBA"])
def test_pixels_are_those_that_were_written(mode):
    content = encoded(smooth(), mode)
    expected = np.asarray(Image.fromarray(smooth()).convert(mode or "RGB").convert("RGB"), int)
    assert read_header(content) == Header("HEIF")
    assert pillow_header(content, "HEIF") == Header("HEIF", 24, 16)
    for decode in (decode_any, decode_in_graph):
        image = np.asarray(decode(tf.constant(content), 3, tf.uint8))
        assert image.dtype == np.uint8
        assert np.abs(image - expected).max() <= ROUNDING
        deep = np.asarray(decode(tf.constant(content), 3, tf.uint16))
        assert np.abs(deep - 257 * expected).max() <= 257 * ROUNDING
        assert decode(tf.constant(content), 1, tf.uint8).shape == (24, 16, 1)


def test_a_photo_is_turned_as_its_camera_was():
    exif = Image.Exif()
    exif[0x112] = 6  # the camera was turned by 90 degrees
    content = encoded(smooth(), exif=exif.tobytes())
    assert pillow_header(content, "HEIF") == Header("HEIF", 16, 24)
    turned = np.rot90(smooth(), -1).astype(int)
    assert np.abs(pillow_decode(content, "HEIF") - turned).max() <= ROUNDING


@pytest.mark.parametrize(("mode", "bits", "least"), [("RGB;16", 8, 2 * 257), ("L;16", 16, 64)])
def test_ten_bits(mode, bits, least):
    """Gray files keep their ten bits, scaled to 16; Pillow reads color files with eight."""
    values = np.linspace(0, 65535, 24 * 16 * 3).reshape(24, 16, 3).astype(np.uint16)
    stored = values if mode == "RGB;16" else np.ascontiguousarray(values[..., 0])
    file = io.BytesIO()
    image = pillow_heif.from_bytes(mode=mode, size=(16, 24), data=stored.tobytes())
    image.save(file, **LOSSLESS)
    assert pillow_header(file.getvalue(), "HEIF").bits == bits
    read = np.asarray(decode_any(tf.constant(file.getvalue()), 3, tf.uint16), int)
    expected = values if mode == "RGB;16" else np.repeat(values[..., :1], 3, axis=-1)
    assert np.abs(read - expected).max() <= least


def test_damaged_files_are_refused_with_a_reason():
    content = encoded(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    for part in (content[: len(content) // 2], content[:40]):
        with pytest.raises(ERRORS, match=r"(damaged HEIF file|not a HEIF file that can be read): "):
            decode_any(tf.constant(part), 3)


@pytest.fixture
def photos(tmp_path):
    """16 photos of two classes, and one that is damaged."""
    for number in range(16):
        folder = tmp_path / "photos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        suffix = ("heic", "HEIF")[number % 2]
        (folder / f"{number}.{suffix}").write_bytes(encoded(smooth() // (1 + number)))
    (folder / "half.heic").write_bytes(encoded(smooth())[:300])
    return tmp_path / "photos"


def test_a_folder_of_photos(photos):
    source = data.image_folder(photos)
    assert len(source) == 16
    assert source.image_shape == (24, 16, 3)
    assert [name.endswith("half.heic") for name in source.skipped] == [True]
    assert "16 HEIF decoded by Pillow, which is slower" in repr(source)
    for file, (image, _) in zip(source.files, source.dataset().as_numpy_iterator(), strict=True):
        number = int(file.rpartition("/")[2].partition(".")[0])
        expected = (smooth() // (1 + number)).astype(int)
        assert np.abs(image - expected).max() <= ROUNDING


@pytest.mark.large
def test_photos_train_a_network_and_are_embedded(photos, tmp_path):
    run, out = tmp_path / "run", tmp_path / "features.npz"
    words = ["--backbone", "tiny", "--image-size", 16, "--batch-size", 8, "--epochs", 1]
    status, _, err = call("pretrain", "--data", photos, *words, "--out", run)
    assert status == 0, err
    status, _, err = call("embed", run, "--data", photos, "--out", out)
    assert status == 0, err
    with np.load(out) as file:
        assert file["features"].shape == (16, 64)
        assert np.isfinite(file["features"]).all()
