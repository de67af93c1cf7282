"""Views have the same pixels if they are made in batches, one by one, or in the training step."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_ssl import augment, data
from keras_ssl.augment import Augmentation, Policy
from keras_ssl.augment.chains import CompiledChains
from keras_ssl.augment.finish import get_finish
from keras_ssl.backbones import Tiny
from keras_ssl.data import view_maker
from keras_ssl.methods import SimCLR
from tests.tiers import rest_large

COUNT = 24
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 12, 10, 3), np.uint8)
LABELS = np.arange(COUNT) % 5


@pytest.fixture
def compiled(monkeypatch):
    """Compiles views of small data sets too."""
    monkeypatch.setattr(view_maker, "WORTH_COMPILING", 0)


def arrays():
    return data.arrays(PIXELS, LABELS)


def plain():
    return tf.data.Dataset.from_tensor_slices((PIXELS, LABELS))


@pytest.fixture
def folder(tmp_path):
    """Returns a function that opens a labeled folder of images of different sizes."""
    for number, pixels in enumerate(PIXELS):
        file = tmp_path / "ab"[number % 2] / f"{number:02}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels[: 6 + number % 6]).save(file)
    return lambda: data.image_folder(tmp_path)


def host_and_step(source, policy, **extras):
    """Returns a batch made on the host, and one finished in the step, as lists of arrays."""
    host = data.views(source, policy, batch_size=8, seed=3, **extras)
    step = data.views(source, policy, batch_size=8, seed=3, finish="step", **extras)
    batches = next(iter(host)), get_finish(step)(next(iter(step)))  # each pass is a new epoch
    tf.nest.assert_same_structure(*batches)
    return [tf.nest.flatten(batch) for batch in batches]


@pytest.mark.parametrize("kind", rest_large(["folder", "arrays", "plain"]))
def test_the_step_makes_the_same_pixels_as_the_host(kind, folder):
    source = {"arrays": arrays, "plain": plain, "folder": folder}[kind]()
    host, step = host_and_step(source, augment.byol(20), labels=True, indices=True)
    for expected, found in zip(host, step, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.large
@pytest.mark.usefixtures("compiled")
def test_the_step_makes_the_same_pixels_as_the_compiled_host():
    for expected, found in zip(*host_and_step(arrays(), augment.simclr(20)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.large
def test_the_step_with_chains_without_a_crop_or_with_nothing_else():
    chains = (
        Augmentation([augment.RandomFlip(), augment.RandomSolarize(0.5)]),
        Augmentation([augment.RandomCrop(8)]),
        Augmentation([]),
    )
    for chain in chains:
        for expected, found in zip(*host_and_step(arrays(), Policy(chain, chain)), strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
        (host,), (step,) = host_and_step(arrays(), chain)
        np.testing.assert_allclose(host, step, rtol=0, atol=1e-6)


class Called(augment.AugmentationLayer):
    """A layer that overrides `call`."""

    def call(self, images, keys=None, training=True):
        return images


def test_layers_that_override_call_cannot_run_in_the_step():
    chain = Augmentation([augment.RandomCrop(8), Called()])
    with pytest.raises(
        ValueError,
        match=r"`finish='step'` needs layers that define `transform` or `change`, not `call`\. "
        r"Received: the policy Policy\(",
    ):
        data.views(arrays(), Policy(chain, chain), batch_size=8, finish="step")


def test_an_unknown_value_of_finish_is_refused():
    with pytest.raises(ValueError, match=r"must be 'host' or 'step'\. Received: finish='gpu'"):
        data.views(arrays(), augment.simclr(8), batch_size=8, finish="gpu")


def test_images_of_different_sizes_need_a_crop(folder):
    flip, source = Augmentation([augment.RandomFlip()]), folder()
    with pytest.raises(ValueError, match=r"first layer is a RandomCrop\. Received: images of"):
        data.views(source, Policy(flip, flip), batch_size=8)


# Large views: made one by one if compiled, otherwise cropped one by one; and in the step.


@pytest.fixture(params=[pytest.param("arrays", marks=pytest.mark.large), "folder"])
def large(request, folder):
    """Images for views that are too large to be made in batches."""
    return {"arrays": arrays, "folder": folder}[request.param]()


@pytest.mark.large
def test_large_views_have_the_same_pixels_in_all_ways(large, monkeypatch):
    policy, shape = augment.simclr(128), tf.TensorShape(large.image_shape)
    expected, step = host_and_step(large, policy)
    monkeypatch.setattr(view_maker, "WORTH_COMPILING", 0)
    maker = view_maker.ViewMaker(policy, shape, 3, False, False, COUNT)
    assert isinstance(maker.chains, CompiledChains)
    assert maker.one_by_one
    compiled = next(iter(data.views(large, policy, batch_size=8, seed=3)))
    for plain_view, compiled_view, step_view in zip(expected, compiled, step, strict=True):
        assert plain_view.shape == (8, 128, 128, 3)
        np.testing.assert_allclose(compiled_view, plain_view, rtol=0, atol=1e-5)
        np.testing.assert_allclose(step_view, plain_view, rtol=0, atol=1e-5)


@pytest.mark.large
@pytest.mark.usefixtures("compiled")
def test_a_large_view_does_not_depend_on_the_batch():
    policy = augment.simclr(128)

    def passes(batch_size):
        views = data.views(arrays(), policy, batch_size=batch_size, seed=3, indices=True)
        parts = [np.concatenate(part) for part in zip(*views.as_numpy_iterator(), strict=True)]
        order = np.argsort(parts.pop())
        return [part[order] for part in parts]

    np.testing.assert_array_equal(passes(12), passes(4))


# What the model sees.

PATTERN = np.random.default_rng(1).random((20, 20, 1), np.float32)


class Seen(SimCLR):
    """Records a weighted mean of each view in the loss, and each loss."""

    def __init__(self, note):
        super().__init__(Tiny((20, 20, 3), features=8))
        self.note = note

    def ssl_loss(self, view_1, view_2):
        loss = super().ssl_loss(view_1, view_2)
        means = [tf.reduce_mean(view * PATTERN, axis=[1, 2]) for view in (view_1, view_2)]
        sums = tf.concat(means, axis=1)  # (batch, 6): depends on flips and colors too
        with tf.control_dependencies([tf.py_function(self.note, [sums, loss], [])]):
            return tf.identity(loss)


def train(finish, strategy, steps_per_execution=1, rate=0.0, epochs=2, steps=None):
    """Trains; returns the recorded means, sorted within each batch, the losses and the weights."""
    notes = []
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = Seen(lambda sums, loss: notes.append((sums.numpy(), float(loss))))
        model.compile(keras.optimizers.SGD(rate), steps_per_execution=steps_per_execution)
    views = data.views(arrays(), augment.byol(20), batch_size=8, seed=3, finish=finish)
    model.fit(views, epochs=epochs, steps_per_epoch=steps, verbose=0)
    count = (steps or 3) * epochs
    assert len(notes) == count * strategy.num_replicas_in_sync
    sums = np.concatenate([sums for sums, _ in notes]).reshape(count, 8, 6)
    # Replicas record in any order.
    sums = np.stack([batch[np.lexsort(batch.round(4).T)] for batch in sums])
    return sums, [loss for _, loss in notes], model.get_weights()


@pytest.mark.large
@pytest.mark.parametrize("steps_per_execution", rest_large([2, 1]))
def test_the_model_sees_the_same_images(two_replicas, steps_per_execution):
    one = tf.distribute.get_strategy()
    expected, *_ = train("host", one)
    assert len(np.unique(expected.round(3).reshape(-1, 6), axis=0)) == 48
    for strategy in (one, two_replicas):
        found, *_ = train("step", strategy, steps_per_execution)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.large
def test_the_loss_and_gradient_are_the_same():
    """Compares the first step only, because rounding differences of 1e-7 grow with each step."""
    one = tf.distribute.get_strategy()
    (_, [loss], weights), (_, [expected_loss], expected) = (
        train(finish, one, rate=1.0, epochs=1, steps=1) for finish in ("step", "host")
    )
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    _, _, start = train("host", one, epochs=1, steps=1)
    moved = [np.abs(a - b).max() for a, b in zip(expected, start, strict=True)]
    assert max(moved) > 1e-2
    for found, value in zip(weights, expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=0, atol=1e-5)
