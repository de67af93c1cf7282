"""Backbones, policies, augmentations and optimizers by name."""

import keras
import numpy as np
import pytest

from keras_ssl import optimizers
from keras_ssl.evaluate.feature_statistics import feature_std
from keras_ssl.presets import build_augmentation, build_backbone, build_optimizer, build_policy
from keras_ssl.presets.policies import POLICIES
from tests.tiers import rest_large


@pytest.mark.parametrize("name", rest_large(POLICIES, 2))
def test_policies(name):
    view = build_policy(name, 12).view_1(np.zeros((2, 12, 12, 3), np.uint8))
    assert view.shape == (2, 12, 12, 3)


def test_simclr_small_is_the_papers_for_cifar10():
    layers = build_policy("simclr-small", 32).view_1.layers
    assert [type(layer).__name__ for layer in layers][-1] == "RandomGrayscale"
    assert layers[2].brightness == pytest.approx(0.4)


def test_augmentations():
    def names(*arguments):
        return [type(layer).__name__ for layer in build_augmentation(*arguments).layers]

    assert names(None, "photos", 32) == names("crop-flip", "digits", 32)
    assert names(None, "digits", 8) == names("centred", "photos", 8)
    assert names("crop-flip", "photos", 8) != names("centred", "photos", 8)


def test_backbones():
    assert build_backbone("small-resnet", 0.25, (32, 32, 3)).output_shape == (None, 48)
    assert build_backbone("tiny", 0.5, (8, 8, 1)).output_shape == (None, 32)
    assert build_backbone("resnet18", 0.25, (32, 32, 3)).output_shape == (None, 128)
    vit = build_backbone("vit-tiny", 1.0, (32, 48, 3))
    assert vit.output_shape == (None, 192)
    assert vit.get_layer("block12").output.shape == (None, 1 + 2 * 3, 192)
    with pytest.raises(
        ValueError, match=r"fixed width\. Received: width=0\.5, backbone='vit-tiny'"
    ):
        build_backbone("vit-tiny", 0.5, (32, 32, 3))
    with pytest.raises(ValueError, match="at least one patch"):
        build_backbone("vit-tiny", 1.0, (8, 8, 3))
    mobile = build_backbone("MobileNetV3Small", 1.0, (32, 32, 3))
    assert len(mobile.output_shape) == 2


@pytest.mark.large
def test_selective_kernels():
    plain, selective = (
        build_backbone(name, 0.0625, (32, 32, 3)) for name in ("resnet50", "resnet50-sk")
    )
    assert selective.count_params() > plain.count_params()
    assert selective.output_shape == plain.output_shape


@pytest.mark.parametrize(
    "name",
    rest_large(["MobileNetV3Small", "ConvNeXtTiny", "EfficientNetB0", "EfficientNetV2B0"]),
)
def test_networks_that_normalize_pixels_get_them_from_0_to_255(name):
    build = getattr(keras.applications, name)
    settings = {"weights": None, "include_top": False, "pooling": "avg"}
    plain = build(input_shape=(32, 32, 3), **settings)
    network = build_backbone(name, 1.0, (32, 32, 3))
    network.set_weights(plain.get_weights())
    images = np.random.default_rng(0).uniform(size=(4, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(network(images), plain(255 * images), rtol=1e-4, atol=1e-6)
    before = build_backbone(name, 1.0, (32, 32, 3), input_scale=1)
    before.set_weights(plain.get_weights())
    np.testing.assert_allclose(before(images), plain(images), rtol=1e-4, atol=1e-6)


@pytest.mark.large
def test_an_untrained_convnext_tells_images_apart():
    images = np.random.default_rng(0).uniform(size=(8, 32, 32, 3)).astype("float32")
    network = build_backbone("ConvNeXtTiny", 1.0, (32, 32, 3))
    assert feature_std(np.asarray(network(images))) > 0.1
    gray = build_backbone("ConvNeXtTiny", 1.0, (32, 32, 1))
    assert gray.output_shape == (None, 768)


def test_networks_of_keras_have_no_width():
    with pytest.raises(ValueError, match=r"`width` applies to resnet.* width=2\.0"):
        build_backbone("MobileNetV2", 2.0, (32, 32, 3))


@pytest.mark.parametrize(
    ("kind", "peak", "decay"),
    [
        ("lars", 0.075 * 16, 1e-6),
        ("sgd", 0.06 * 256 / 128, 5e-4),
        ("adam", 1e-3, None),
        ("adamw", 1.5e-4, 0.05),
    ],
)
def test_optimizers_have_the_references_rates(kind, peak, decay):
    built = build_optimizer(kind, None, None, 256, total_steps=100, warmup_steps=10)
    schedule = built._learning_rate
    assert isinstance(schedule, optimizers.WarmupCosine)
    assert (schedule.peak, schedule.total_steps, schedule.warmup_steps) == (
        pytest.approx(peak),
        100,
        10,
    )
    assert built.weight_decay == decay
    own = build_optimizer(kind, 0.25, 0.125, 256, total_steps=100, warmup_steps=10)
    assert own._learning_rate.peak == 0.25
    assert own.weight_decay == 0.125


@pytest.mark.parametrize(("scaling", "peak"), [("none", 0.5), ("linear", 1.0), ("sqrt", 11.3137)])
def test_the_learning_rate_is_scaled_by_the_batch(scaling, peak):
    built = build_optimizer("sgd", 0.5, None, 512, 100, 10, scaling)
    assert built._learning_rate.peak == pytest.approx(peak, rel=1e-4)
    default = build_optimizer("sgd", None, None, 512, 100, 10, scaling)
    assert default._learning_rate.peak == pytest.approx(0.24)  # the reference's is scaled already
    scaled = build_optimizer("sgd", 0.5, None, 512, 100, 10, scaling, factor=0.1)
    assert scaled._learning_rate.peak == pytest.approx(0.1 * peak, rel=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: build_policy("simclr-smal", 8),
            r"Unknown policy of views\. Nearest: simclr-small, simclr\. .*'simclr-smal'",
        ),
        (
            lambda: build_augmentation("crop", "photos", 8),
            r"Unknown augmentation\. Nearest: crop-flip\. .*'crop'",
        ),
        (
            lambda: build_backbone("resnet17", 1.0, (8, 8, 3)),
            r"Unknown backbone\. Nearest: resnet18.* Received: 'resnet17'",
        ),
        (
            lambda: build_backbone("MobileNetV22", 1.0, (8, 8, 3)),
            r"Unknown backbone\. Nearest: MobileNetV2",
        ),
        (
            lambda: build_backbone("resnet", 1.0, (8, 8, 3)),  # a module of keras.applications
            r"Unknown backbone\. Nearest: .*resnet",
        ),
        (
            lambda: build_optimizer("lasr", None, None, 8, 1, 0),
            r"Unknown optimizer\. .*Expected one of: lars, sgd, adam, adamw\. Received: 'lasr'",
        ),
        (
            lambda: build_optimizer("sgd", 0.1, None, 8, 1, 0, "cubic"),
            r"Unknown scaling\. .*Expected one of: none, linear, sqrt\. Received: 'cubic'",
        ),
    ],
)
def test_unknown_names_get_the_nearest(make, message):
    with pytest.raises(ValueError, match=message):
        make()
