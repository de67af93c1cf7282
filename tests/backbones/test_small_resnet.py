import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.backbones import SmallResNet


@pytest.mark.parametrize(
    ("shape", "last_shape"),
    [((32, 32, 3), (4, 4)), ((8, 8, 1), (1, 1)), ((9, 17, 6), (2, 3)), ((64, 48, 3), (8, 6))],
)
def test_maps_images_of_any_size_to_features(shape, last_shape):
    model = SmallResNet(4, shape)
    assert model.input_shape == (None, *shape)
    assert model.output_shape == (None, 16)
    assert model.get_layer("block3").output.shape[1:3] == last_shape
    assert np.isfinite(model(np.ones((2, *shape), "float32"))).all()


def test_default_size():
    # By hand, for c filters: the first convolution 27 c; a block from d to e filters d e for the
    # shortcut, 9 d e and 9 e^2 for the others; and 4 numbers per filter and batch normalisation.
    c = 48
    blocks = [10 * d * e + 9 * e * e for d, e in ((c, 2 * c), (2 * c, 4 * c))]
    assert SmallResNet().count_params() == 27 * c + sum(blocks) + 4 * (c + 3 * 2 * c + 3 * 4 * c)
    assert 0.6e6 < SmallResNet().count_params() < 0.7e6


def test_a_block_starts_as_its_shortcut():
    model = SmallResNet(4, (16, 16, 3))
    starting_at_zero = [
        layer.name
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization) and not np.any(layer.gamma)
    ]
    assert len(starting_at_zero) == 2  # the last of each block
    for number in (2, 3):
        add = next(
            layer
            for layer in model.layers
            if isinstance(layer, keras.layers.Add)
            and layer.output is model.get_layer(f"block{number}").input
        )
        inner = keras.Model(model.inputs[0], add.input)
        branches = inner(np.random.default_rng(0).random((2, 16, 16, 3)).astype("float32"))
        assert [bool(np.any(branch)) for branch in branches] == [False, True]


def test_features_have_a_gradient():
    model = SmallResNet(4, (16, 16, 3))
    images = np.random.default_rng(0).random((8, 16, 16, 3)).astype("float32")
    for layer in model.layers:  # zero gammas would block the gradient
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.gamma.assign(tf.ones_like(layer.gamma))
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
        model = SmallResNet(4, (8, 8, 1))
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("block3").output.dtype == "bfloat16"
    assert model(np.ones((2, 8, 8, 1), "float32")).dtype == "float32"


def test_saves_and_loads(tmp_path):
    model = SmallResNet(4, (8, 8, 1), name="digits")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.name == "digits"
    images = np.ones((2, 8, 8, 1), "float32")
    np.testing.assert_array_equal(loaded(images), model(images))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"filters": 0}, "`filters` must be at least 1. Received: filters=0"),
        ({"input_shape": (8, 8)}, r"`input_shape` must be .* Received: input_shape=\(8, 8\)"),
        ({"input_shape": (7, 8, 3)}, "with sides of at least 8 pixels"),
    ],
)
def test_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SmallResNet(**kwargs)


def test_free_sizes_have_the_weights_of_a_fixed_size():
    fixed, free = SmallResNet(4, (32, 32, 3)), SmallResNet(4, (None, None, 3))
    free.set_weights(fixed.get_weights())
    images = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    np.testing.assert_allclose(free(images), fixed(images), atol=1e-6)
    assert free(images[:, :8, :8]).shape == (2, 16)
