"""What a sample of images says about a source: how many are gray, and their sizes."""

import numpy as np
import pytest
from PIL import Image

from keras_ssl import data
from keras_ssl.data.image_sample import gray_share, sample_images, sample_sides


def mixed(dtype=np.uint8, most=255):
    """Returns 8 gray images with slight noise between the channels, and 4 in color."""
    random = np.random.default_rng(0)
    gray = random.uniform(0.1, 0.9, (8, 6, 6, 1)) + random.uniform(-0.01, 0.01, (8, 6, 6, 3))
    color = random.uniform(0, 1, (4, 6, 6, 3))
    return (np.concatenate([gray, color]) * most).astype(dtype)


@pytest.mark.parametrize(("dtype", "most"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
def test_gray_images_are_counted_in_all_types(dtype, most):
    assert gray_share(data.arrays(mixed(dtype, most))) == pytest.approx(8 / 12)


def test_images_of_one_channel_are_gray_and_other_channels_are_refused():
    assert gray_share(data.digits("test")) == 1
    with pytest.raises(ValueError, match=r"1 or 3 channels. Received: 4 channels in 'four'"):
        gray_share(data.arrays(np.zeros((2, 4, 4, 4), np.uint8), name="four"))


def test_a_tinted_image_is_not_gray():
    tinted = np.full((3, 6, 6, 3), (120, 100, 80), np.uint8)
    assert gray_share(data.arrays(tinted)) == 0


def test_a_sample_is_spread_over_the_images():
    images = np.arange(100, dtype=np.uint8)[:, None, None, None] * np.ones((2, 2, 1), np.uint8)
    found = sample_images(data.arrays(images), 4)
    assert [image[0, 0, 0] for image in found] == [0, 33, 66, 99]
    assert len(sample_images(data.arrays(images[:3]))) == 3


def test_sides_of_files_are_read_and_those_of_arrays_are_known(tmp_path):
    for number, size in enumerate([(20, 10), (30, 40)]):
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(tmp_path / f"{number}.png")
    np.testing.assert_array_equal(sample_sides(data.image_folder(tmp_path)), [[20, 10], [30, 40]])
    np.testing.assert_array_equal(sample_sides(data.digits("test")), [[8, 8]])
