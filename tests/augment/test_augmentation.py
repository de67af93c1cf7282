"""A contract that every layer and policy must pass, with one row for each."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import augment
from keras_ssl.augment import random
from tests.tiers import rest_large

SIZE = 16

LAYERS = {
    "crop": lambda: augment.RandomCrop(SIZE, area=(0.2, 0.9), aspect=(0.5, 2.0), seed=3),
    "flip": lambda: augment.RandomFlip(0.4, seed=3),
    "jitter": lambda: augment.ColorJitter(0.5, 0.6, 0.7, 0.1, probability=0.9, seed=3),
    "grey": lambda: augment.RandomGrayscale(0.3, seed=3),
    "blur": lambda: augment.RandomBlur(0.6, sigma=(0.5, 1.5), seed=3),
    "solarize": lambda: augment.RandomSolarize(0.6, threshold=0.5, seed=3),
    "warp": lambda: augment.RandomWarp(10, 0.2, 0.1, 0.1, 0.03, grid=4, seed=3),
    "center crop": lambda: augment.CenterCrop(SIZE, share=0.75),
    "evaluation": lambda: augment.evaluation(SIZE),
    "simclr": lambda: augment.simclr(SIZE).view_1,
    "moco v1": lambda: augment.moco_v1(SIZE).view_1,
    "moco v2": lambda: augment.moco_v2(SIZE).view_1,
    "byol": lambda: augment.byol(SIZE).view_2,
    "centred": lambda: augment.centred(SIZE).view_1,
    "chain": lambda: augment.Augmentation(
        [augment.RandomFlip(), augment.RandomWarp(shift=0.2)], seed=4
    ),
}
# These chain layers that have rows of their own; "chain" is the one of the default tier.
REPEATS = {"simclr", "moco v1", "moco v2", "byol", "centred", "evaluation"}
DETERMINISTIC = {"center crop", "evaluation"}
POLICIES = {"simclr", "moco v1", "moco v2", "byol", "centred"}


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.large) if name in REPEATS else name for name in LAYERS
    ]
)
def name(request):
    return request.param


@pytest.fixture
def layer(name):
    return LAYERS[name]()


@pytest.fixture
def images(noise):
    return (noise(12, 20, 20) * 255).astype(np.uint8)


def test_eager_equals_graph(layer, images, keys):
    eager = layer(images, keys=keys(12))
    graph = tf.function(lambda images, keys: layer(images, keys=keys))(images, keys(12))
    np.testing.assert_array_equal(eager, graph)
    assert eager.shape == (12, layer(images, keys=keys(12)).shape[1], eager.shape[2], 3)


def test_within_a_dataset(layer, images, keys):
    data = tf.data.Dataset.from_tensor_slices((images, keys(12))).batch(6)
    data = data.map(lambda images, keys: layer(images, keys=keys), tf.data.AUTOTUNE)
    found = np.concatenate(list(data.as_numpy_iterator()))
    np.testing.assert_array_equal(found, layer(images, keys=keys(12)))


def test_compiles_under_xla(name, layer, images, keys):
    if name in DETERMINISTIC:
        pytest.skip("bicubic resizing by TensorFlow has no XLA kernel")

    def augmented(images, keys):
        return layer(images, keys=keys)

    compiled = tf.function(augmented, jit_compile=True)(images, keys(12))
    # XLA fuses multiplication and addition, so rounding differs.
    np.testing.assert_allclose(compiled, layer(images, keys=keys(12)), atol=2e-5)


def test_same_keys_same_pixels(layer, images, keys):
    first = layer(images, keys=keys(12))
    np.testing.assert_array_equal(first, layer(images, keys=keys(12)))


def test_other_keys_other_pixels(name, layer, images, keys):
    if name in DETERMINISTIC:
        pytest.skip("nothing is random")
    first = layer(images, keys=keys(12))
    for other in ({"view": 1}, {"epoch": 1}, {"seed": 1}):
        assert np.abs(first - layer(images, keys=keys(12, **other))).max() > 1e-3


def test_an_image_does_not_depend_on_the_rest_of_its_batch(layer, images, keys):
    whole = layer(images, keys=keys(12)).numpy()
    order = [7, 2, 9]
    chosen = layer(images[order], keys=tf.gather(keys(12), order))
    np.testing.assert_array_equal(whole[order], chosen)
    alone = layer(images[5:6], keys=keys(1, first=5))
    np.testing.assert_allclose(whole[5:6], alone, atol=1e-6)


def test_one_image_without_a_batch(layer, images, keys):
    whole = layer(images, keys=keys(12))
    one = layer(images[5], keys=keys(1, first=5))
    assert one.shape == whole.shape[1:]
    np.testing.assert_allclose(whole[5], one, atol=1e-6)


@pytest.mark.parametrize("dtype", rest_large(["uint8", "float32", "uint16", "float16"], 2))
def test_any_dtype_becomes_float32_between_0_and_1(layer, keys, dtype):
    share = np.random.default_rng(0).random((4, 20, 20, 3))
    largest = 1 if dtype.startswith("float") else np.iinfo(dtype).max
    images = (share * largest).astype(dtype)
    found = layer(images, keys=keys(4))
    assert found.dtype == tf.float32
    assert float(tf.reduce_min(found)) >= 0
    assert float(tf.reduce_max(found)) <= 1 + 1e-6
    expected = layer(share.astype(np.float32), keys=keys(4))
    np.testing.assert_allclose(found, expected, atol=0.1)
    assert float(tf.reduce_mean(found)) == pytest.approx(float(tf.reduce_mean(expected)), abs=5e-3)


@pytest.mark.parametrize("channels", [1, 4])
def test_any_number_of_channels(layer, noise, keys, channels):
    found = layer(noise(4, 20, 20, channels), keys=keys(4))
    assert found.shape[-1] == channels
    assert np.isfinite(found).all()


def test_stays_float32_under_mixed_precision(name, images, keys):
    expected = LAYERS[name]()(images, keys=keys(12))
    keras.config.set_dtype_policy("mixed_float16")
    found = LAYERS[name]()(images, keys=keys(12))
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(found, expected)


def test_configuration_round_trip(name, layer, images, keys):
    config = keras.saving.serialize_keras_object(layer)
    copy = keras.saving.deserialize_keras_object(config)
    assert copy.get_config() == layer.get_config()
    np.testing.assert_array_equal(copy(images, keys=keys(12)), layer(images, keys=keys(12)))


def test_a_model_with_the_layer_is_saved_and_loaded(name, layer, images, tmp_path):
    model = keras.Sequential([keras.Input((20, 20, 3)), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    images = images / np.float32(255)
    np.testing.assert_array_equal(loaded(images, training=False), model(images, training=False))


def test_without_training_nothing_is_random(layer, images):
    first = layer(images, training=False)
    np.testing.assert_array_equal(first, layer(images, training=False))
    assert first.dtype == tf.float32


def test_own_generator_draws_new_numbers_and_follows_the_seed(name, images):
    if name in DETERMINISTIC | POLICIES:
        pytest.skip("has no seed")
    first, second = LAYERS[name](), LAYERS[name]()
    draws = [first(images).numpy() for _ in range(3)]
    assert np.abs(draws[0] - draws[1]).max() > 1e-3
    assert np.abs(draws[1] - draws[2]).max() > 1e-3
    for draw in draws:
        np.testing.assert_array_equal(draw, second(images))


def test_own_generator_within_a_dataset(name, layer, images):
    if name in DETERMINISTIC:
        pytest.skip("nothing is random")
    same = tf.data.Dataset.from_tensors(images[0]).repeat(8)
    found = np.stack(list(same.map(layer).as_numpy_iterator()))
    assert len(np.unique(found.reshape(8, -1), axis=0)) > 1


def test_layers_of_a_chain_draw_different_numbers(keys):
    flips = augment.Augmentation([augment.RandomFlip(), augment.RandomFlip()])
    count = 4000
    images = np.tile(np.array([0, 1], np.float32).reshape(1, 1, 2, 1), (count, 1, 1, 1))
    flipped = flips(images, keys=keys(count)).numpy()[:, 0, 0, 0]
    # Two flips with the same number would cancel.
    assert flipped.mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(count))


def test_a_chain_applies_its_layers_in_order(noise, keys):
    layers = [augment.RandomCrop(SIZE), augment.RandomFlip(), augment.RandomGrayscale(0.5)]
    expected = noise(8, 20, 20)
    for position, layer in enumerate(layers):
        expected = layer(expected, keys=random.fold(keys(8), position))
    np.testing.assert_array_equal(
        augment.Augmentation(layers)(noise(8, 20, 20), keys=keys(8)), expected
    )


@pytest.mark.parametrize("policy", [augment.simclr, augment.moco_v1, augment.byol])
def test_crop_then_other_layers_equals_the_full_chain(noise, keys, policy):
    chain = policy(SIZE).view_2
    images = tf.constant(noise(6, 40, 30))
    crops = tf.stack(
        [chain.crop_one(image, keys(1, first=number)) for number, image in enumerate(images)]
    )
    np.testing.assert_allclose(
        chain.after_crop(crops, keys(6)), chain(images, keys=keys(6)), atol=5e-3
    )


def test_an_empty_chain_only_converts(noise, keys):
    nothing = augment.Augmentation([])
    assert not nothing.begins_with_crop
    np.testing.assert_array_equal(nothing(noise(), keys=keys(6)), noise())


def test_a_chain_rejects_other_layers():
    with pytest.raises(TypeError, match=r"`layers` must be augmentation layers.* type Rescaling"):
        augment.Augmentation([keras.layers.Rescaling(2.0)])


def test_a_chain_rejects_a_late_crop():
    with pytest.raises(ValueError, match=r"Only the first .* \['RandomFlip', 'RandomCrop'\]"):
        augment.Augmentation([augment.RandomFlip(), augment.RandomCrop(8)])


def test_a_layer_without_transform_raises(noise):
    with pytest.raises(TypeError, match="AugmentationLayer does not define `transform`"):
        augment.AugmentationLayer()(noise())
