"""Presets of methods that cut images into tiles: the two networks, and images that are too small."""

from dataclasses import replace

import numpy as np
import pytest

import keras_ssl
from keras_ssl import data, export
from keras_ssl.presets import ImageFacts, find_preset
from tests.command_line import call

METHODS = ("relative-location", "jigsaw", "pirl")
FACTS = ImageFacts(image_channels=3, image_count=100)


def resolve(method="jigsaw", side=32, **options):
    preset = find_preset(method)(**{"batch_size": 8, "backbone": "tiny", **options})
    return preset.resolve(FACTS, sides=(side, side))


@pytest.mark.parametrize(
    ("backbone", "width", "side"),
    [
        ("tiny", 0.125, 32),
        ("small-resnet", 0.1, 32),
        ("resnet18", 0.0625, 32),
        pytest.param("resnet18", 0.0625, 96, marks=pytest.mark.large),
        pytest.param("MobileNetV2", 1.0, 96, marks=pytest.mark.large),
    ],
)
def test_the_encoder_has_the_weights_of_the_trained_backbone(backbone, width, side):
    preset = resolve(side=side, backbone=backbone, width=width)
    trained, encoder = preset.build_backbone(FACTS), preset.build_encoder(FACTS)
    assert trained.input_shape == (None, None, None, 3)
    assert encoder.input_shape == (None, side, side, 3)
    encoder.set_weights(trained.get_weights())
    images = np.random.default_rng(0).random((2, side, side, 3), np.float32)
    np.testing.assert_allclose(encoder(images), trained(images), atol=1e-5)


def test_options_reach_the_methods():
    model = resolve(permutations=7, gray=0.5, tile_share=0.9)
    model = model.build_model(model.build_backbone(FACTS), FACTS)
    assert (model.permutations, model.gray, model.share) == (7, 0.5, 0.9)
    model = resolve("relative-location", hidden_units=5, gray=0.1, tile_share=0.8)
    model = model.build_model(model.build_backbone(FACTS), FACTS)
    assert (model.classifier.hidden_units, model.gray, model.share) == (5, 0.1, 0.8)
    model = resolve("pirl", embedding=6, temperature=0.2, tile_weight=0.3, tile_share=0.8)
    model = model.build_model(model.build_backbone(FACTS), FACTS)
    assert (model.projector.units, model.temperature) == (6, 0.2)
    assert (model.tile_weight, model.share, model.size, model.negatives) == (0.3, 0.8, 100, 50)


@pytest.mark.parametrize("method", METHODS)
def test_images_that_are_too_small_are_refused(method):
    with pytest.raises(
        ValueError, match=r"images of at least 24 pixels.*image_size=23, cells of 7"
    ):
        resolve(method, side=23)
    assert resolve(method, side=24).image_size == 24


@pytest.mark.parametrize("method", METHODS)
def test_the_command_refuses_digits_before_training(method, tmp_path):
    status, _, err = call(
        "pretrain", "--data", "digits", "--method", method, "--out", tmp_path / "r"
    )
    assert status != 0
    assert "images of at least 24 pixels. Received: image_size=8" in err
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile_share": 0.0}, "`tile_share` must lie in"),
        ({"backbone": "vit-tiny"}, r"Expected: a convolutional network.*backbone='vit-tiny'"),
        ({"permutations": 505}, "`permutations` must be at most 504"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        resolve(**options)


def test_a_weight_above_one_is_refused():
    with pytest.raises(ValueError, match=r"`tile_weight` must lie in \[0, 1\]"):
        resolve("pirl", tile_weight=2.0)


def test_small_tiles_and_enlarged_images_are_said():
    source = data.arrays(np.zeros((4, 32, 40, 3), np.uint8))
    (small,) = resolve(side=32).check_images(source)
    assert "images of 32 pixels give tiles of 8 pixels" in small
    assert list(replace(resolve(side=32), image_size=144).check_images(source)) == [
        "The images are enlarged from 32 to 144 pixels, which does not add to what their tiles show."
    ]
    large = data.arrays(np.zeros((2, 144, 144, 3), np.uint8))
    assert list(resolve(side=144).check_images(large)) == []


@pytest.mark.parametrize("method", [pytest.param(m, marks=pytest.mark.large) for m in METHODS])
def test_a_run_is_judged_and_exported_on_whole_images(method, tmp_path):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (48, 30, 36, 3), np.uint8)  # neither square nor of its size
    source = data.arrays(images, np.arange(48) % 3)
    run = keras_ssl.pretrain(
        (source, source),
        method,
        out=tmp_path / "run",
        backbone="tiny",
        width=0.25,
        image_size=27,
        batch_size=16,
        epochs=1,
        knn_every=1,
        **({"hidden_units": 16} if method == "relative-location" else {}),
    )
    assert 0 <= run.history[-1]["knn"] <= 1
    encoder = run.encoder()
    assert encoder.input_shape == (None, 27, 27, 3)
    rows = run.evaluate((source, source), labels_per_class=[1], draws=2, baselines=True)
    assert {"untrained", "trained"} <= rows.keys()
    assert rows["trained"]["knn"]["accuracy"] == pytest.approx(run.history[-1]["knn"], abs=1e-6)
    loaded = export.load(run.export())
    batch = generator.random((2, 27, 27, 3), np.float32)
    np.testing.assert_allclose(loaded(batch), encoder(batch), atol=1e-5)
    # A resumed run goes on with the network for all sizes.
    again = keras_ssl.pretrain((source, source), resume=run.path, epochs=2)
    assert len(again.history) == 2
