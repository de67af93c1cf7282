"""Compiled chains of a policy against the same chains with plain TensorFlow operations."""

import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import augment
from keras_ssl.augment import chains as module
from keras_ssl.augment.chains import Chains, CompiledChains, can_compile
from keras_ssl.augment.layer import RandomChange

SIZE, COUNT = 32, 40
POLICIES = {
    "simclr": augment.simclr,
    "moco_v1": augment.moco_v1,
    "moco_v2": augment.moco_v2,
    "byol": augment.byol,
}


class Pair:
    """The plain and the compiled chains of a policy, and images."""

    def __init__(self, policy, size, count, shape):
        self.plain, self.compiled = Chains(policy), CompiledChains(policy, size)
        generator = np.random.default_rng(0)
        # Coarse shapes and a little noise. Unlike pure noise, their crops have edges and flat areas.
        coarse = generator.integers(0, 200, (count, shape[0] // 8, shape[1] // 8, 3))
        pixels = coarse.repeat(8, axis=1).repeat(8, axis=2)
        noise = generator.integers(0, 56, pixels.shape)
        self.images = tf.constant((pixels + noise).astype(np.uint8))
        self.numbers = tf.range(count, dtype=tf.int64)

        self.drawn = self.compiled.draw(5, tf.constant(0, tf.int64), self.numbers)

    def views(self, chains, numbers):
        """Returns both views of a batch of images: (2, batch, size, size, 3)."""
        images = tf.gather(self.images, numbers)
        drawn = tf.nest.map_structure(lambda values: tf.gather(values, numbers), self.drawn)
        return np.stack([chains.apply(view, images, own) for view, own in enumerate(drawn)])

    def view_of_one(self, chains, number, view):
        """Returns one view of a single image."""
        drawn = [values[number : number + 1] for values in self.drawn[view]]
        return chains.view_of_one(view, self.images[number], drawn).numpy()


@pytest.fixture(scope="module")
def small():
    """Returns a function that gives the chains of a policy at 32 px, compiled once."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = Pair(POLICIES[name](SIZE), SIZE, COUNT, (40, 48))
        return made[name]

    return get


@pytest.fixture(scope="module")
def large():
    """The chains of SimCLR's policy at 224 px, which process images one by one."""
    return Pair(augment.simclr(224), 224, 12, (240, 200))


# BYOL's chains have the layers of all others; SimCLR's chain is small.
@pytest.mark.parametrize(
    "name",
    [
        "simclr",
        pytest.param("byol", marks=pytest.mark.large),
        pytest.param("moco_v1", marks=pytest.mark.large),
        pytest.param("moco_v2", marks=pytest.mark.large),
    ],
)
def test_compiled_small_views_equal_the_plain_ones(small, name):
    pair, numbers = small(name), list(range(COUNT))
    assert not pair.compiled.one_by_one
    plain, compiled = (pair.views(chains, numbers) for chains in (pair.plain, pair.compiled))
    assert compiled.shape == (2, COUNT, SIZE, SIZE, 3)
    np.testing.assert_allclose(compiled, plain, rtol=0, atol=1e-5)
    assert np.abs(plain[0] - plain[1]).max() > 0.1


def test_compiled_large_views_equal_the_plain_ones(large):
    assert large.compiled.one_by_one
    layers = large.plain.chains[0].layers
    acts = [layers[i].chosen(large.drawn[0][i]).numpy() for i in range(1, 5)]
    # Every branch is taken for some images and skipped for others.
    assert all(0 < sum(chosen) < 12 for chosen in acts)
    for number in range(12):
        for view in range(2):
            plain, compiled = (
                large.view_of_one(chains, number, view) for chains in (large.plain, large.compiled)
            )
            assert compiled.shape == (224, 224, 3)
            np.testing.assert_allclose(compiled, plain, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["simclr", pytest.param("byol", marks=pytest.mark.large)])
def test_compiled_views_do_not_depend_on_the_batch(small, name):
    pair = small(name)
    whole = pair.views(pair.compiled, list(range(COUNT)))
    for numbers in ([3], [7, 3, 39], list(range(COUNT))[::-1], list(range(5, 37)), [3] * 33):
        found = pair.views(pair.compiled, numbers)
        np.testing.assert_array_equal(found, whole[:, numbers])


@pytest.mark.large
def test_compiled_views_are_equal_within_a_dataset(small):
    pair = small("simclr")

    def views(images, numbers):
        drawn = pair.compiled.draw(5, tf.constant(0, tf.int64), numbers)
        return [pair.compiled.apply(view, images, own) for view, own in enumerate(drawn)]

    batches = tf.data.Dataset.from_tensor_slices((pair.images, pair.numbers)).batch(20, True)
    found = list(batches.map(views, tf.data.AUTOTUNE).as_numpy_iterator())
    np.testing.assert_array_equal(
        np.concatenate(found, axis=1), pair.views(pair.compiled, list(range(COUNT)))
    )


def test_draws_are_equal_compiled_and_in_another_batch(small):
    pair = small("simclr")
    epochs, numbers = tf.constant([0, 4, 4], tf.int64), tf.constant([9, 9, 2], tf.int64)
    compiled = tf.nest.flatten(pair.compiled.draw(5, epochs, numbers))
    for row in range(3):
        alone = pair.plain.draw(5, epochs[row], numbers[row : row + 1])
        for many, one in zip(compiled, tf.nest.flatten(alone), strict=True):
            np.testing.assert_array_equal(many[row], one[0])


def test_some_of_the_layers(small):
    pair = small("simclr")
    images, drawn = pair.images, pair.drawn[0]
    crops = pair.compiled.apply(0, images, drawn, last=1)
    expected = pair.plain.apply(0, images, drawn, last=1)
    np.testing.assert_allclose(crops, expected, rtol=0, atol=1e-5)
    views = pair.compiled.apply(0, crops, drawn, first=1)
    whole = pair.compiled.apply(0, images, drawn)
    np.testing.assert_allclose(views, whole, rtol=0, atol=1e-5)


class Halved(RandomChange):
    """Halves some of the images, optionally with an operation unknown to XLA."""

    draws = 1
    probability = 0.5

    def __init__(self, compiles=True, **kwargs):
        super().__init__(**kwargs)
        self.compiles = compiles

    def change(self, images, numbers):
        return images * 0.5


class Called(augment.AugmentationLayer):
    """A layer that overrides `call`."""

    def call(self, images, keys=None, training=True):
        return images


def test_what_compiles():
    chain = augment.Augmentation
    assert can_compile([chain([augment.RandomFlip(), Halved()])])
    assert not can_compile([chain([augment.RandomFlip(), Halved(compiles=False)])])
    assert not can_compile([chain([augment.RandomFlip(), Called()])])
    assert not can_compile([chain([])])
    assert not can_compile([chain([augment.RandomFlip()]), chain([Called()])])


def test_without_a_compiler_nothing_is_compiled(monkeypatch):
    def fail_to_compile(function):
        def fail(*_):
            raise tf.errors.InvalidArgumentError(None, None, "no XLA in this build")

        return lambda *_: tf.py_function(fail, [0], tf.int32)

    module._has_compiler.cache_clear()
    monkeypatch.setattr(module, "_compile", fail_to_compile)
    assert not can_compile(augment.simclr(8))
    module._has_compiler.cache_clear()


def test_a_chain_without_a_crop_one_by_one():
    chain = augment.Augmentation([Halved(), augment.RandomFlip()])
    pair = Pair((chain, chain), 128, 4, (128, 128))
    for number in range(4):
        plain, compiled = (
            pair.view_of_one(chains, number, 1) for chains in (pair.plain, pair.compiled)
        )
        np.testing.assert_allclose(compiled, plain, rtol=0, atol=1e-5)


def test_change_must_be_defined():
    class Empty(RandomChange):
        draws, probability = 1, 1.0

    with pytest.raises(TypeError, match="Empty does not define `change`"):
        Empty().change_one(tf.zeros((1, 4, 4, 3)), tf.zeros((1, 1)))
