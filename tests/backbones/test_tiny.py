import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.backbones import Tiny
from keras_ssl.backbones.tiny import tiny_strides


@pytest.mark.parametrize(
    ("shape", "last_side"), [((32, 32, 3), 8), ((8, 8, 1), 4), ((3, 5, 6), 3), ((64, 48, 3), 12)]
)
def test_maps_images_of_any_size_to_features(shape, last_side):
    model = Tiny(shape, features=16)
    assert model.input_shape == (None, *shape)
    assert model.output_shape == (None, 16)
    assert min(model.get_layer("block3").output.shape[1:3]) == last_side
    assert np.isfinite(model(np.ones((2, *shape), "float32"))).all()


def test_features_have_a_gradient_everywhere():
    model = Tiny((8, 8, 1))
    images = np.random.default_rng(0).random((8, 8, 8, 1)).astype("float32")
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(images, training=True) ** 2)
    for variable, gradient in zip(
        model.trainable_variables,
        tape.gradient(loss, [v.value for v in model.trainable_variables]),
        strict=True,
    ):
        assert np.abs(gradient).max() > 0, variable.path


def test_features_are_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = Tiny((8, 8, 1))
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("block3").output.dtype == "bfloat16"
    assert model(np.ones((2, 8, 8, 1), "float32")).dtype == "float32"


def test_saves_and_loads(tmp_path):
    model = Tiny((8, 8, 1), name="digits")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.name == "digits"
    images = np.ones((2, 8, 8, 1), "float32")
    np.testing.assert_array_equal(loaded(images), model(images))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"features": 3}, "`features` must be at least 4. Received: features=3"),
        ({"input_shape": (8, 8)}, r"`input_shape` must be .* Received: input_shape=\(8, 8\)"),
        ({"input_shape": (8, 0, 3)}, "`input_shape` must be .*, all positive"),
        ({"input_shape": (8, 8, None)}, "`input_shape` must be .*, all positive"),
        (
            {"input_shape": (None, None, 3)},
            "`strides` must be given when the image size is unknown",
        ),
    ],
)
def test_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Tiny(**kwargs)


@pytest.mark.parametrize("side", [8, 12, 16, 32])
def test_free_sizes_have_the_weights_of_a_fixed_size(side):
    fixed = Tiny((side, side, 3), 8)
    free = Tiny((None, None, 3), 8, strides=tiny_strides(side))
    free.set_weights(fixed.get_weights())
    images = np.random.default_rng(0).random((2, side, side, 3), np.float32)
    np.testing.assert_allclose(free(images), fixed(images), atol=1e-6)
    assert free(images[:, : side // 2, : side // 2]).shape == (2, 8)
