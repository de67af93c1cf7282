import io

import keras
import numpy as np
import pytest
import rich
import tensorflow as tf
from rich.console import Console

from keras_ssl import data, evaluate
from keras_ssl.backbones import Tiny
from keras_ssl.evaluate.features import Encoder


@pytest.fixture(scope="module")
def backbone():
    return Tiny((8, 8, 1), features=16)


@pytest.fixture(scope="module")
def digits():
    return data.digits("test")


def _open_size_backbone():
    images = keras.Input((None, None, 3))
    return keras.Model(images, keras.layers.GlobalAveragePooling2D()(images))


def test_features_are_those_of_the_backbone_in_inference_mode(backbone, digits):
    images = np.stack([image.numpy() for image, _ in digits.dataset()])
    expected = backbone(images.astype(np.float32) / 255, training=False)
    features = evaluate.extract(backbone, digits, batch_size=100)
    assert features.values.dtype == np.float32
    assert features.values.shape == (360, 16)
    np.testing.assert_allclose(features.values, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(features.labels, digits.labels)
    assert features.labels.dtype == np.int64


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_batch_size_does_not_matter(backbone, digits, batch_size):
    part = digits.subset(range(20))
    expected = evaluate.extract(backbone, part, batch_size=20).values
    values = evaluate.extract(backbone, part, batch_size=batch_size).values
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-6)


def test_every_kind_of_source_gives_the_same(backbone, digits):
    part = digits.subset(range(30))
    images = np.stack([image.numpy() for image, _ in part.dataset()])
    sources = {
        "source": part,
        "arrays": (images, part.labels),
        "column of labels": (images, part.labels[:, None].astype(np.uint8)),
        "float64": (images / 255, part.labels),
        "data set": tf.data.Dataset.from_tensor_slices((images, part.labels)),
        "batches": tf.data.Dataset.from_tensor_slices((images, part.labels)).batch(8),
    }
    expected = evaluate.extract(backbone, part)
    for kind, source in sources.items():
        features = evaluate.extract(backbone, source)
        np.testing.assert_allclose(features.values, expected.values, atol=1e-5, err_msg=kind)
        np.testing.assert_array_equal(features.labels, part.labels, err_msg=kind)
    assert evaluate.extract(backbone, expected) is expected


def test_unlabelled_sources_have_no_labels(backbone):
    images = np.zeros((3, 8, 8, 1), np.uint8)
    for source in (
        (images, None),
        data.arrays(images),
        tf.data.Dataset.from_tensor_slices(images),
    ):
        assert evaluate.extract(backbone, source).labels is None


def test_images_are_resized_to_the_backbone(digits):
    features = evaluate.extract(evaluate.pixels((16, 16, 1)), digits.subset(range(4)))
    assert features.values.shape == (4, 256)
    assert features.preprocessing == "evaluation(16)"
    assert 0 <= features.values.min() < 0.1
    assert 0.9 < features.values.max() <= 1


def test_augmentation_replaces_the_preprocessing(digits):
    def darker(image):
        return tf.cast(image, tf.float32) / 510

    plain = evaluate.extract(evaluate.pixels((8, 8, 1)), digits)
    dark = evaluate.extract(evaluate.pixels((8, 8, 1)), digits, augmentation=darker)
    np.testing.assert_allclose(dark.values, plain.values / 2, atol=1e-6)
    assert dark.preprocessing == "darker"


def test_a_backbone_of_any_size_gets_whole_images():
    images = np.full((2, 5, 7, 3), 51, np.uint8)
    features = evaluate.extract(_open_size_backbone(), (images, None))
    np.testing.assert_allclose(features.values, 0.2, atol=1e-6)
    assert features.preprocessing == "whole images"


def test_images_of_different_sizes_need_a_size():
    def images():
        yield np.zeros((5, 5, 3), np.uint8)
        yield np.zeros((6, 5, 3), np.uint8)

    spec = tf.TensorSpec((None, None, 3), tf.uint8)
    source = tf.data.Dataset.from_generator(images, output_signature=spec)
    with pytest.raises(ValueError, match="must all have the same size"):
        evaluate.extract(_open_size_backbone(), source)
    assert len(evaluate.extract(evaluate.pixels((4, 4, 3)), source)) == 2


def test_maps_are_rejected(digits):
    maps = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3)])
    with pytest.raises(ValueError, match=r"\(batch, dim\).*\(256, 6, 6, 4\).*pooling='avg'"):
        evaluate.extract(maps, digits)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_named(value):
    images = np.full((6, 8, 8, 1), 0.5, np.float32)
    model = evaluate.pixels((8, 8, 1))
    source = data.arrays((images * 255).astype(np.uint8), name="my images")

    def broken(image):
        return tf.cast(image, tf.float32) + value

    with pytest.raises(
        ValueError, match=r"'my images' must be finite.* 6 of 6 images, first for im"
    ):
        evaluate.extract(model, source, augmentation=broken)


@pytest.mark.parametrize(
    ("source", "error", "match"),
    [
        ((np.zeros((2, 8, 8), np.uint8), None), ValueError, "height, width, channels"),
        ((np.full((2, 8, 8, 1), 16.0), None), ValueError, r"be in \[0, 1\].*16 to 16"),
        ((np.zeros((2, 8, 8, 1), np.uint8), np.zeros(3, int)), ValueError, "2 images and 3 labels"),
        ((np.zeros((2, 8, 8, 1), np.uint8), np.eye(2)), ValueError, "must be integers.*argmax"),
        ((np.zeros((2, 8, 8, 3), np.uint8), None), ValueError, r"\(8, 8, 1\).*\(8, 8, 3\)"),
        ("cifar10", TypeError, "must be a keras_ssl.data source.*str"),
        (tf.data.Dataset.from_tensors({"image": 1}), TypeError, "as_supervised"),
        (
            tf.data.Dataset.from_tensors(np.zeros((8, 8, 1), np.uint8)).repeat(),
            ValueError,
            "repeats forever",
        ),
        ((np.zeros((0, 8, 8, 1), np.uint8), None), ValueError, "at least one image"),
    ],
)
def test_sources_that_do_not_fit(backbone, source, error, match):
    with pytest.raises(error, match=match):
        evaluate.extract(backbone, source)


def test_inputs_that_are_not_square_need_an_augmentation(digits):
    with pytest.raises(ValueError, match=r"square.*8 x 12"):
        evaluate.extract(evaluate.pixels((8, 12, 1)), digits)


def test_two_inputs_are_rejected(digits):
    images = [keras.Input((8, 8, 1)), keras.Input((8, 8, 1))]
    model = keras.Model(images, keras.layers.Flatten()(images[0] + images[1]))
    with pytest.raises(ValueError, match="one tensor of images"):
        evaluate.extract(model, digits)


def test_a_method_is_not_a_backbone(digits, backbone):
    from keras_ssl.methods import SimCLR

    with pytest.raises(ValueError, match=r"SimCLR; pass its `.backbone`"):
        evaluate.extract(SimCLR(backbone), digits)


@pytest.mark.parametrize(
    ("terminal", "progress", "shown"),
    [(True, True, True), (True, False, False), (False, True, False)],
)
def test_the_progress_bar_is_shown_on_request_and_on_terminals_only(
    backbone, digits, monkeypatch, terminal, progress, shown
):
    file = io.StringIO()
    monkeypatch.setattr(rich, "_console", Console(file=file, force_terminal=terminal))
    evaluate.extract(backbone, digits.subset(range(10)), progress=progress)
    assert ("Features of digits" in file.getvalue()) == shown


def test_the_encoder_traces_once_per_batch_shape(backbone, digits):
    encoder = Encoder(backbone)
    for _ in range(3):
        encoder(digits, batch_size=100)
        encoder(digits, batch_size=64)
    assert encoder._forward.experimental_get_tracing_count() <= 2


def test_mixed_precision_gives_float32(digits):
    keras.config.set_dtype_policy("mixed_bfloat16")
    images = keras.Input((8, 8, 1))
    model = keras.Model(images, keras.layers.Dense(4)(keras.layers.Flatten()(images)))
    assert evaluate.extract(model, digits.subset(range(3))).values.dtype == np.float32


def test_inside_a_strategy(digits, two_replicas):
    with two_replicas.scope():
        model = Tiny((8, 8, 1), features=16)
        inside = evaluate.extract(model, digits)
    outside = evaluate.extract(model, digits)
    np.testing.assert_array_equal(inside.values, outside.values)
    copy = Tiny((8, 8, 1), features=16)
    copy.set_weights(model.get_weights())
    np.testing.assert_allclose(evaluate.extract(copy, digits).values, inside.values, atol=1e-6)


def test_features_check_their_parts():
    with pytest.raises(ValueError, match=r"non-empty matrix.*\(3,\)"):
        evaluate.Features(np.zeros(3))
    with pytest.raises(ValueError, match=r"shape \(3,\).*\(2,\)"):
        evaluate.Features(np.zeros((3, 2)), np.zeros(2))
    features = evaluate.Features(np.eye(3), np.array([4, 5, 6]), "some")
    part = features.subset(np.array([2, 0]))
    np.testing.assert_array_equal(part.values, np.eye(3)[[2, 0]])
    np.testing.assert_array_equal(part.labels, [6, 4])
    assert part.name == "some"
    with pytest.raises(ValueError, match="'features' must have labels"):
        _ = evaluate.Features(np.eye(3)).targets
