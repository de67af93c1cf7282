"""The default size of views, from the sizes of the images."""

import pytest

from keras_ssl.presets import ImageFacts, SimCLR
from keras_ssl.presets.image_size import default_image_size


@pytest.mark.parametrize(
    ("sides", "typical", "size", "reason"),
    [
        ((32, 32), 32, 32, None),
        ((7, 7), 7, 7, None),
        ((224, 224), 224, 224, None),
        ((1024, 1024), 1024, 224, "the images are 1024 x 1024"),
        ((40, 100), 40, 40, "the images are 40 x 100"),
        ((None, None), 90, 88, "the median of their shorter sides is 90 pixels"),
        ((None, None), 375, 224, "the median of their shorter sides is 375 pixels"),
        ((None, None), 5, 5, "the median"),
        ((None, None), None, 224, "unknown"),
    ],
)
def test_the_default_and_its_reason(sides, typical, size, reason):
    found, explained = default_image_size(sides, typical)
    assert found == size
    assert (explained is None) == (reason is None)
    assert reason is None or reason in explained


@pytest.mark.parametrize(
    ("options", "size", "policy"),
    [
        ({"sides": (32, 32)}, 32, "simclr-small"),
        ({"typical_side": 50}, 48, "simclr-small"),
        ({"typical_side": 500}, 224, "simclr"),
    ],
)
def test_the_policy_follows_the_size(options, size, policy):
    preset = SimCLR().resolve(ImageFacts(3, 1000), **options)
    assert (preset.image_size, preset.policy) == (size, policy)
    assert SimCLR(image_size=96).resolve(ImageFacts(3, 1000), **options).policy == "simclr"
