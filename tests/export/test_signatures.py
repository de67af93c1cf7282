"""The signatures of a SavedModel: float32 images, uint8 images, images of any size, and files."""

import io
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_ssl import augment, export
from keras_ssl.backbones import Tiny
from keras_ssl.export import model_card
from keras_ssl.export.preprocessing import Preprocessing

NORMALIZED = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "centre_crop": 0.875}


def pixels(batch=3, height=16, width=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (batch, height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def backbone():
    backbone = Tiny((16, 16, 3), features=16)
    for seed in range(3):
        backbone(pixels(8, seed=seed).astype("float32") / 255, training=True)
    return backbone


@pytest.fixture(scope="module")
def exported(backbone, tmp_path_factory):
    path = tmp_path_factory.mktemp("artefacts") / "normalized"
    return export.saved_model(backbone, path, preprocessing=NORMALIZED)


@pytest.fixture(scope="module")
def normalized(exported):
    return tf.saved_model.load(exported)


def normalize(images):
    """The last step of the preprocessing contract, in float64."""
    mean, std = np.array(NORMALIZED["mean"]), np.array(NORMALIZED["std"])
    return ((images.astype("float64") - mean) / std).astype("float32")


def encode(image, kind):
    content = io.BytesIO()
    Image.fromarray(image).save(content, kind)
    return content.getvalue()


def test_uint8_images_are_scaled_and_normalized(backbone, normalized):
    expected = backbone(normalize(pixels() / 255))
    np.testing.assert_allclose(normalized(tf.constant(pixels())), expected, atol=1e-5)
    received = normalized.signatures["uint8"](images=tf.constant(pixels()))["features"]
    np.testing.assert_allclose(received, expected, atol=1e-5)
    # float32 images are passed on unchanged.
    images = pixels().astype("float32") / 255
    received = normalized.signatures["serving_default"](images=tf.constant(images))["features"]
    np.testing.assert_allclose(received, backbone(images), atol=1e-5)


def test_uint8_images_train(backbone, exported):
    # Not the fixture, because training changes the moving statistics.
    own = tf.saved_model.load(exported)
    images = normalize(pixels() / 255)
    expected = keras.models.clone_model(backbone)
    expected.set_weights(backbone.get_weights())
    features = own(tf.constant(pixels()), training=True)
    np.testing.assert_allclose(features, expected(images, training=True), atol=1e-5)
    np.testing.assert_allclose(own(images), expected(images), atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (48, 33), (9, 21)])
def test_pixels_of_any_size_are_preprocessed(height, width, backbone, normalized):
    raw = pixels(2, height, width)
    side = round(0.875 * min(height, width))
    top, left = (height - side) // 2, (width - side) // 2
    square = raw[:, top : top + side, left : left + side].astype("float32") / 255
    small = tf.image.resize(square, (16, 16), "bicubic", antialias=True).numpy()
    expected = backbone(normalize(np.clip(small, 0, 1)))
    received = normalized.signatures["pixels"](images=tf.constant(raw))["features"]
    np.testing.assert_allclose(received, expected, atol=2e-5)


def test_files_of_different_sizes_form_a_batch(normalized):
    images = [pixels(1, 20 + 4 * i, 30)[0] for i in range(3)]
    kinds = ("PNG", "BMP", "JPEG")
    files = [encode(image, kind) for image, kind in zip(images, kinds, strict=True)]
    received = normalized.signatures["encoded"](images=tf.constant(files))["features"]
    for index, file in enumerate(files):
        decoded = tf.io.decode_image(file, 3, expand_animations=False)[None]
        expected = normalized.signatures["pixels"](images=decoded)["features"][0]
        np.testing.assert_allclose(received[index], expected, atol=1e-5)


def test_a_file_that_is_not_an_image_is_refused(normalized):
    with pytest.raises(tf.errors.InvalidArgumentError, match="not the content of a JPEG"):
        normalized.signatures["encoded"](images=tf.constant([b"text"]))


def test_nothing_is_resized_if_the_size_is_free(tmp_path):
    layers = keras.layers
    backbone = keras.Sequential(
        [keras.Input((None, None, 3)), layers.Conv2D(8, 3), layers.GlobalAveragePooling2D()]
    )
    network = tf.saved_model.load(export.saved_model(backbone, tmp_path / "free"))
    images = [pixels(1, 12, 20)[0], pixels(1, 24, 16)[0]]
    files = tf.constant([encode(image, "PNG") for image in images])
    received = network.signatures["encoded"](images=files)["features"]
    for feature, image in zip(received, images, strict=True):
        expected = backbone(image[None].astype("float32") / 255)[0]
        np.testing.assert_allclose(feature, expected, atol=1e-5)
        raw = network.signatures["pixels"](images=tf.constant(image[None]))["features"][0]
        np.testing.assert_allclose(raw, expected, atol=1e-5)


def test_color_files_are_converted_for_grayscale_networks(tmp_path):
    backbone = Tiny((8, 8, 1), features=8)
    network = tf.saved_model.load(export.saved_model(backbone, tmp_path / "grey"))
    image = pixels(1, 8, 8)[0]
    received = network.signatures["encoded"](images=tf.constant([encode(image, "PNG")]))
    grey = tf.image.rgb_to_grayscale(image)[None]
    expected = network.signatures["pixels"](images=grey)["features"]
    np.testing.assert_allclose(received["features"], expected, atol=1e-5)


@pytest.mark.parametrize("size", [16, 96])
def test_the_default_preprocessing_equals_evaluation(size):
    contract = model_card.preprocessing_contract((size, size, 3))
    raw = pixels(2, 130, 101)
    expected = augment.evaluation(size)(raw)
    np.testing.assert_allclose(Preprocessing(contract)(tf.constant(raw)), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"interpolation": "best"}, "Expected: one of area, bicubic.*interpolation='best'"),
        ({"centre_crop": 1.5}, r"share in \(0, 1\], or None. Received: centre_crop=1.5"),
        ({"mean": [0.5]}, "3 numbers, one per channel, or None. Received: mean="),
        ({"std": [1, 0, 1]}, r"positive numbers. Received: std=\[1, 0, 1\]"),
    ],
)
def test_an_invalid_contract_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        model_card.preprocessing_contract((16, 16, 3), given)


def test_gray_files_of_16_bits_are_scaled_as_pixels_are(tmp_path):
    """12 bits in 16: a value that is off by a few units would be visible."""
    backbone = Tiny((16, 16, 1), features=16)
    value_range = {"low": [0.0], "high": [4095.0], "of": "uint16"}
    path = export.saved_model(
        backbone, tmp_path / "gray", preprocessing={"value_range": value_range}
    )
    raw = np.random.default_rng(0).integers(0, 4096, (2, 16, 16, 1)).astype(np.uint16)
    expected = backbone((raw / 4095).astype("float32"))
    signatures = tf.saved_model.load(str(path)).signatures
    np.testing.assert_allclose(
        signatures["pixels"](tf.constant(raw))["features"], expected, atol=1e-6
    )
    files = tf.constant([tf.io.encode_png(image).numpy() for image in raw])
    np.testing.assert_allclose(signatures["encoded"](files)["features"], expected, atol=1e-6)


def test_the_card_names_the_signatures(backbone, tmp_path):
    path = export.saved_model(backbone, tmp_path / "card")
    card = (path / "README.md").read_text()
    assert all(f"`{name}`" in card for name in tf.saved_model.load(path).signatures)
    assert json.loads((path / "manifest.json").read_text())["format"] == 1
