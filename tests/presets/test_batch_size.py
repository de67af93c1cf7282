"""The default batch size, and the error for a batch that is too large."""

from dataclasses import replace

import pytest

from keras_ssl.presets import ImageFacts, MoCo, SimCLR
from keras_ssl.presets.batch_size import batch_size_error, default_batch_size


@pytest.mark.parametrize(
    ("images", "parts", "size"),
    [
        (20, 1, 16),
        (200, 1, 128),
        (255, 1, 128),
        (256, 1, 256),
        (50_000, 1, 256),
        (0, 1, 256),  # unknown
        (1, 1, 1),
        (200, 2, 128),
        (200, 3, 126),  # every device has the same number of images
        (2, 4, 4),  # too few: refused later, with the number of devices
    ],
)
def test_the_default_fits_the_data_set(images, parts, size):
    assert default_batch_size(images, parts) == size


def test_a_preset_takes_the_default_for_its_images():
    few = ImageFacts(3, 200)
    assert SimCLR().resolve(few, sides=(32, 32)).batch_size == 128
    assert SimCLR(batch_size=50).resolve(few, sides=(32, 32)).batch_size == 50
    assert SimCLR().resolve(ImageFacts(3, 1000), replicas=3).batch_size == 255
    moco = MoCo().resolve(few, sides=(32, 32))
    assert (moco.batch_size, moco.groups) == (128, 8)
    assert replace(moco, seed=1).resolve(few, sides=(32, 32)).batch_size == 128


def test_the_error_proposes_a_batch_size():
    message = "Received: batch_size=256, and 200 images in 'few'. A batch size that fits: 128"
    assert message in str(batch_size_error(256, 200, "few"))
    assert "fits: 126" in str(batch_size_error(256, 200, "few", parts=3))
