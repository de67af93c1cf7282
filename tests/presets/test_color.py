"""The presets of methods that learn from colors: what they build and which images they refuse."""

from dataclasses import replace

import numpy as np
import pytest

from keras_ssl import data
from keras_ssl.backbones.of_lightness import sees_only_lightness
from keras_ssl.backbones.two_streams import stream_sizes
from keras_ssl.methods.colorization import color_weights
from keras_ssl.presets import ImageFacts, find_preset

METHODS = ("colorization", "split-brain", "cmc")
FACTS = ImageFacts(image_channels=3, image_count=100)


def images(colored, gray=0, channels=3):
    generator = np.random.default_rng(0)
    colors = generator.integers(0, 256, (colored, 8, 8, channels), np.uint8)
    grays = np.repeat(generator.integers(0, 256, (gray, 8, 8, 1), np.uint8), channels, axis=-1)
    return data.arrays(np.concatenate([colors, grays]))


def preset(method, **options):
    found = find_preset(method)(backbone="tiny", batch_size=32, **options)
    return found.resolve(FACTS, sides=(8, 8))


@pytest.mark.parametrize("method", METHODS)
def test_gray_images_are_said_before_training(method):
    name = {"colorization": "Colorization", "split-brain": "SplitBrain", "cmc": "CMC"}[method]
    assert list(preset(method).check_images(images(40, 3))) == []
    (text,) = preset(method).check_images(images(15, 5))
    assert text.startswith(
        f"{name} learns from the colors of images, but about 25% of these images"
    )
    with pytest.raises(ValueError, match=f"{name} learns from the colors.*all images looked at"):
        list(preset(method).check_images(images(0, 20)))
    with pytest.raises(ValueError, match=f"{name} learns from the colors.*whose images have 1"):
        list(preset(method).check_images(images(5, channels=1)))


def test_colorization_measures_the_prior_of_its_images():
    source = images(20)
    chosen = preset("colorization")
    measured = chosen.measure(source)
    assert measured == data.color_prior(source)
    facts = replace(FACTS, measured=measured)
    backbone = chosen.build_backbone(facts)
    assert sees_only_lightness(backbone)
    model = chosen.build_model(backbone, facts)
    np.testing.assert_array_equal(model.color_weights, color_weights(measured, 0.5, 262))
    plain = preset("colorization", rebalance=False, hidden_units=7)
    assert plain.measure(source) is None
    model = plain.build_model(plain.build_backbone(FACTS), FACTS)
    np.testing.assert_allclose(model.color_weights, 1, rtol=1e-6)
    assert model.head.hidden_units == 7


@pytest.mark.parametrize(
    ("backbone", "sizes"),
    [("tiny", (32, 32)), ("small-resnet", (96, 96)), ("resnet18", (256, 256))],
)
def test_two_streams_have_half_the_width_each(backbone, sizes):
    chosen = find_preset("cmc")(backbone=backbone, batch_size=32).resolve(FACTS, sides=(32, 32))
    assert stream_sizes(chosen.build_backbone(FACTS)) == sizes


def test_options_of_two_streams_reach_the_method():
    chosen = preset("split-brain", lightness_bins=10, hidden_units=7)
    model = chosen.build_model(chosen.build_backbone(FACTS), FACTS)
    assert (model.lightness_bins, model.lightness_head.units) == (10, 10)
    assert {model.color_head.hidden_units, model.lightness_head.hidden_units} == {7}
    chosen = preset("cmc", embedding=24, temperature=0.3)
    model = chosen.build_model(chosen.build_backbone(FACTS), FACTS)
    assert (model.color_head.units, model.lightness_head.units, model.temperature) == (24, 24, 0.3)
    with pytest.raises(ValueError, match="`lightness_bins` must be at least 2"):
        preset("split-brain", lightness_bins=1)
