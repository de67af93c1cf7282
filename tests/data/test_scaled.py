"""Value ranges: what they do to pixels, how they are measured, and when a warning is due."""

import logging

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_ssl import data
from keras_ssl.data import open_source
from keras_ssl.data.scaled import scale, warn_if_little_used
from keras_ssl.data.value_range import ValueRange


def twelve_bits(channels=1, count=20):
    values = np.random.default_rng(0).integers(0, 4096, (count, 8, 8, channels))
    return values.astype(np.uint16)


def expected(values, low, high):
    return np.clip((values.astype(np.float64) - low) / (np.asarray(high) - low), 0, 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.int32, np.float64])
def test_values_between_low_and_high_become_0_to_1(dtype):
    values = np.arange(-100, 100).clip(np.iinfo(dtype).min if dtype != np.float64 else -100)
    images = values.astype(dtype).reshape(2, 10, 10, 1)
    source = data.arrays(images, value_range=(-20, 60))
    assert source.image_shape == (10, 10, 1)
    assert source.dtype == source.read(0).dtype.as_numpy_dtype == np.float32
    np.testing.assert_allclose(source.read(1), expected(images, -20, 60)[1], atol=1e-6)
    np.testing.assert_allclose(
        source.read(tf.constant([0, 1])), expected(images, -20, 60), atol=1e-6
    )


def test_auto_measures_percentiles_of_each_channel():
    images = twelve_bits(channels=2) * np.array([1, 2], np.uint16)
    source = data.arrays(images, value_range="auto")
    low, high = np.percentile(images.reshape(-1, 2), (0.5, 99.5), axis=0)
    np.testing.assert_allclose(source.value_range.low, low)
    np.testing.assert_allclose(source.value_range.high, high)
    assert source.value_range.of == "uint16"
    np.testing.assert_allclose(source.read(3), expected(images, low, high)[3], atol=1e-6)


def test_a_constant_channel_becomes_0():
    images = twelve_bits(channels=2)
    images[..., 1] = 7
    source = data.arrays(images, value_range="auto")
    assert not source.read(0)[..., 1].numpy().any()
    assert source.read(0)[..., 0].numpy().max() > 0.9


def test_all_ways_to_read_agree():
    images = twelve_bits(channels=3)
    source = scale(data.arrays(images, np.arange(20) % 2), (0, 4000))
    rows = [image for image, _ in source.dataset().as_numpy_iterator()]
    np.testing.assert_allclose(rows, expected(images, 0, 4000), atol=1e-6)
    for index, image, label in source.shuffled(0, 20, labels=True).as_numpy_iterator():
        np.testing.assert_array_equal(image, rows[index])
        assert label == index % 2
    np.testing.assert_array_equal(source.subset([5]).read(0), rows[5])
    assert source.subset([5]).value_range == source.value_range
    assert len(source.split(0.5)[1]) == 10


def test_another_range_is_another_fingerprint():
    source = data.arrays(twelve_bits())
    prints = {scale(source, each).fingerprint() for each in ("full", (0, 4000), (0, 4001))}
    assert len(prints) == 3


def test_images_are_scaled_once():
    source = scale(data.arrays(twelve_bits()), (0, 4000))
    assert scale(source, source.value_range) is source
    with pytest.raises(ValueError, match=r"scaled once\. Expected: the range 0 to 9\. Received"):
        scale(source, (0, 9))


@pytest.mark.parametrize("wrong", [(5, 5), (9, 1), (0,), (0, float("inf")), (0, 1, 2), "most"])
def test_wrong_ranges(wrong):
    with pytest.raises(ValueError, match="`value_range` must be 'full', 'auto', or two numbers"):
        scale(data.arrays(twelve_bits()), wrong)


def test_a_range_for_another_number_of_channels():
    with pytest.raises(ValueError, match="1 or 3 values for images of 3 channels"):
        scale(data.arrays(twelve_bits(channels=3)), ValueRange((0, 0), (9, 9)))


def test_other_types_need_a_range():
    with pytest.raises(TypeError, match=r"`--value-range LOW HIGH`.*Received: int16"):
        data.arrays(np.zeros((2, 4, 4), np.int16))
    with pytest.raises(ValueError, match=r"`--value-range LOW HIGH`.*from 0 to 9"):
        data.arrays(np.linspace(0, 9, 32).reshape(2, 4, 4))
    with pytest.raises(ValueError, match="must be finite"):
        data.arrays(np.full((2, 4, 4), np.nan), value_range=(0, 1))


def test_train_and_test_images_have_the_range_of_the_training_images(tmp_path):
    images = twelve_bits()
    np.savez(tmp_path / "deep.npz", x_train=images, x_test=images[:5] // 2)
    train, test = open_source(tmp_path / "deep.npz", value_range="auto")
    assert train.value_range == test.value_range
    low, high = train.value_range.low[0], train.value_range.high[0]
    np.testing.assert_allclose(test.read(0), expected(images[0] // 2, low, high), atol=1e-6)


def test_ranges_of_8_and_16_bit_folders_agree(tmp_path):
    values = np.arange(0, 240, 10, np.uint8).reshape(4, 6)
    for name, image in {"flat": values, "deep": values.astype(np.uint16) * 257}.items():
        (tmp_path / name).mkdir()
        Image.fromarray(image).save(tmp_path / name / "0.png")
    flat, deep = (data.image_folder(tmp_path / name) for name in ("flat", "deep"))
    assert (flat.dtype, deep.dtype) == (np.uint8, np.uint16)
    measured = scale(deep, "auto")
    again = scale(flat, measured.value_range)
    np.testing.assert_allclose(again.read(0), measured.read(0), atol=1e-6)


def test_json():
    found = ValueRange((0.0, 1.5), (4095.0, 9.0), "uint16")
    assert ValueRange.from_json(found.to_json()) == found
    assert str(found) == "0 to 4095, 1.5 to 9"


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (twelve_bits(), "use little of their range: most lie between"),
        (np.random.default_rng(0).integers(100, 110, (9, 8, 8, 3)).astype(np.uint8), "100 and 109"),
        (np.random.default_rng(0).uniform(0, 0.04, (9, 8, 8)), "of 0 to 1"),
        (np.full((9, 8, 8, 3), 9, np.uint8), "are equal: 9, 9, 9"),
    ],
)
def test_images_that_use_little_of_their_range_are_named(images, text, caplog):
    with caplog.at_level(logging.WARNING, "keras_ssl"):
        warn_if_little_used(data.arrays(images))
    [record] = caplog.records
    assert text in record.getMessage()


def test_single_channels_are_named(caplog):
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 4), np.uint8)
    images[..., 2] //= 30
    images[..., 3] = 5
    with caplog.at_level(logging.WARNING, "keras_ssl"):
        warn_if_little_used(data.arrays(images))
    assert [" in channel 3: 5" in caplog.text, "range in channel 2: " in caplog.text] == [
        True,
        True,
    ]


def test_ordinary_and_scaled_images_get_no_warning(caplog):
    with caplog.at_level(logging.WARNING, "keras_ssl"):
        warn_if_little_used(data.digits("train"))
        warn_if_little_used(data.arrays(twelve_bits(), value_range="auto"))
        warn_if_little_used(data.arrays(twelve_bits() * 16))
    assert caplog.records == []
