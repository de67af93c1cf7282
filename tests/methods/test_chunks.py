"""Training in chunks equals training on the full batch."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.backbones import Tiny
from keras_ssl.callbacks import MomentumEncoder
from keras_ssl.data.parallel import with_threads
from keras_ssl.layers import LinearProbe, MLPHead, ProjectionHead, split_batch_norm
from keras_ssl.methods import BYOL, MemoryBank, MoCo, SimCLR, SimCLRMemory
from tests.tiers import rest_large

SHAPE = (8, 8, 3)
BATCH = 16
CHUNKS = 4


def plain():
    """A network without batch normalization."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(8, 3, 2, activation="relu"),
            layers.Conv2D(16, 3, activation="gelu"),
            layers.GlobalAveragePooling2D(),
        ]
    )


def normalised():
    return Tiny(SHAPE, features=16)


def split(groups=CHUNKS):
    return split_batch_norm(normalised(), groups)


def simclr(network):
    return SimCLR(network, ProjectionHead(8), temperature=0.5)


def simclr_memory(network):
    return SimCLRMemory(network, ProjectionHead(8, depth=3), queue_size=20)


def moco(network, **shared):
    return MoCo(network, MLPHead(8), queue_size=20, **shared)


def byol(network):
    heads = (MLPHead(8, 16, batch_norm=True, name=name) for name in ("projector", "predictor"))
    return BYOL(network, *heads)


def symmetric(network):
    return moco(network, symmetric=True)


METHODS = [simclr, moco, byol]
# For tests that hardly depend on the method, the default suite runs one.
ONE_OF_THEM = [simclr, *(pytest.param(method, marks=pytest.mark.large) for method in (moco, byol))]
FURTHER = [pytest.param(method, marks=pytest.mark.large) for method in (symmetric, simclr_memory)]


def views(steps=3):
    return np.random.default_rng(0).random((2, steps * BATCH, *SHAPE), np.float32)


def batches(steps=3):
    values = views(steps)
    return with_threads(
        tf.data.Dataset.from_tensor_slices((values[0], values[1])).batch(BATCH, True)
    )


def built(method, network):
    keras.utils.set_random_seed(1)
    backbone = network()  # a split network draws random numbers twice
    keras.utils.set_random_seed(2)
    return method(backbone)


def trained(method, network, optimizer=None, scope=None, data=None, **compile_arguments):
    """Returns the model after three steps, and the loss of each epoch."""
    with contextlib.nullcontext() if scope is None else scope.scope():
        model = built(method, network)
        model.compile(optimizer or keras.optimizers.SGD(0.05), **compile_arguments)
    callbacks = [MomentumEncoder(0.9, final=0.9)] if hasattr(model, "momentum") else []
    history = model.fit(data or batches(), verbose=0, callbacks=callbacks).history
    return model, history["loss"]


def values_of(variables):
    return [np.asarray(variable).copy() for variable in variables]


def assert_same_training(one, other, tolerance=1e-5):
    for first, second in zip(one[0].weights, other[0].weights, strict=True):
        np.testing.assert_allclose(first, second, atol=tolerance, err_msg=first.path)
    np.testing.assert_allclose(one[1], other[1], rtol=tolerance)


def gradients(method, network, chunks):
    model = built(method, network)
    model.compile("sgd", chunks=chunks)
    with tf.GradientTape() as tape:
        loss = model.ssl_loss(*views(1))
    return [loss, *tape.gradient(loss, model.trainable_variables)]


@pytest.mark.parametrize("networks", [(plain, plain), (normalised, split), (split, split)])
@pytest.mark.parametrize("method", rest_large([moco, simclr, byol, simclr_memory]))
def test_gradients_equal_those_of_the_full_batch(method, networks):
    # With batch normalization, those of the full batch normalized in as many groups.
    found, expected = (gradients(method, n, c) for n, c in zip(networks, (CHUNKS, 1), strict=True))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("networks", [(plain, plain), (normalised, split)])
@pytest.mark.parametrize("method", rest_large([moco, simclr, byol, *FURTHER]))
def test_training_equals_that_on_the_full_batch(method, networks):
    # Including moving statistics and queues.
    found = trained(method, networks[0], chunks=CHUNKS)
    assert_same_training(found, trained(method, networks[1]))


def test_batch_normalization_without_groups_differs():
    found, expected = (trained(simclr, normalised, chunks=chunks) for chunks in (CHUNKS, 1))
    assert abs(found[1][0] - expected[1][0]) > 1e-4


def test_negatives_come_from_the_full_batch():
    model = built(lambda network: SimCLR(network, MLPHead(8), temperature=0.5), plain)
    model.compile("sgd", chunks=CHUNKS)
    whole = float(model.ssl_loss(*views(1)))
    parts = [float(model.ssl_loss(*part)) for part in np.split(views(1), CHUNKS, axis=1)]
    assert np.mean(parts) < whole - 1  # about 7 equal negatives instead of 31; log(31 / 7) is 1.5


@pytest.mark.parametrize("method", ONE_OF_THEM)
@pytest.mark.parametrize(
    "way",
    [{"jit_compile": True}, {"run_eagerly": True}, {"steps_per_execution": 3}],
    ids=lambda way: next(iter(way)),
)
def test_compiled_eager_and_several_steps(method, way):
    found = trained(method, plain, chunks=CHUNKS, **way)
    assert_same_training(found, trained(method, plain), 1e-4 if "jit_compile" in way else 1e-5)


@pytest.mark.parametrize("method", rest_large([moco, simclr, byol, *FURTHER]))
def test_two_replicas_equal_one(method, two_replicas):
    found = trained(method, plain, scope=two_replicas, chunks=CHUNKS)
    assert_same_training(found, trained(method, plain))


@pytest.mark.large
@pytest.mark.parametrize("chunks", [2, pytest.param(4, marks=pytest.mark.large)])
def test_two_replicas_split_groups_into_chunks(two_replicas, chunks):
    def network():
        return split(groups=8)

    found = trained(moco, network, scope=two_replicas, chunks=chunks)
    assert_same_training(found, trained(moco, network))


@pytest.mark.large
def test_replicas_synchronize_per_chunk(two_replicas):
    found = trained(simclr, normalised, scope=two_replicas, chunks=2)
    # The first chunks of both replicas hold first views, and the second chunks second views.
    assert_same_training(found, trained(simclr, lambda: split(2)))


@pytest.mark.large
def test_synchronized_batch_normalization_of_keras(two_replicas):
    def network():
        norm = keras.layers.BatchNormalization(synchronized=True)
        layers = [keras.layers.Conv2D(8, 3, 2), norm, keras.layers.GlobalAveragePooling2D()]
        return keras.Sequential([keras.Input(SHAPE), *layers])

    found = trained(simclr, network, scope=two_replicas, chunks=2)
    assert np.all(np.isfinite(found[1]))
    for variable in found[0].weights:
        first, second = (np.asarray(value) for value in variable.value.values)
        np.testing.assert_array_equal(first, second)


def test_gradients_are_accumulated():
    def accumulating():
        return keras.optimizers.SGD(0.05, gradient_accumulation_steps=2)

    data = batches(4)
    found = trained(simclr, plain, accumulating(), data=data, chunks=CHUNKS)
    assert_same_training(found, trained(simclr, plain, accumulating(), data=data))


@pytest.mark.parametrize("policy", rest_large(["mixed_float16", "mixed_bfloat16"]))
@pytest.mark.parametrize("method", ONE_OF_THEM)
def test_mixed_precision(method, policy):
    keras.config.set_dtype_policy(policy)

    def step(chunks):
        optimizer = keras.optimizers.SGD(0.05)
        if policy == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=2.0**8)
        return trained(method, plain, optimizer, data=batches(1), chunks=chunks)

    found, expected = step(CHUNKS), step(1)
    assert int(found[0].optimizer.iterations) == 1
    assert_same_training(found, expected, 0.01)


def test_the_memory_bank():
    numbered = tf.data.Dataset.zip(batches(), tf.data.Dataset.range(3 * BATCH).batch(BATCH, True))
    data = numbered.map(lambda pair, index: (*pair, index))

    def bank(network):
        return MemoryBank(network, MLPHead(8, depth=1), size=3 * BATCH, negatives=8)

    found, expected = (trained(bank, plain, data=data, chunks=chunks) for chunks in (CHUNKS, 1))
    assert_same_training(found, expected)


def test_the_probe_trains_on_features_in_inference_mode():
    data = batches().map(lambda *pair: (pair, tf.range(BATCH) % 3))

    def probed(network):
        return SimCLR(network, ProjectionHead(8), probe=LinearProbe(3))

    networks = ((normalised, CHUNKS), (split, 1))
    found, expected = (trained(probed, net, data=data, chunks=chunks) for net, chunks in networks)
    assert_same_training(found, expected)


def test_keys_are_shuffled_if_chunks_are_normalized_separately():
    assert not moco(normalised())._normalizes_in_parts()
    for network, expected in ((normalised(), True), (plain(), False)):
        model = moco(network)
        model.compile("sgd", chunks=2)
        assert model._normalizes_in_parts() == expected


def test_a_loaded_model_trains_in_chunks(tmp_path):
    model, _ = trained(simclr, plain, chunks=CHUNKS)
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").chunks == CHUNKS


@pytest.mark.parametrize("chunks", [0, 1.5, "4", True])
def test_refuses_an_invalid_number_of_chunks(chunks):
    with pytest.raises(
        ValueError, match=rf"must be an integer of at least 1\. Received: chunks={chunks!r}"
    ):
        simclr(plain()).compile("sgd", chunks=chunks)


def test_refuses_an_indivisible_batch_before_training(two_replicas):
    model = simclr(plain())
    model.compile("sgd", chunks=5)
    model.make_train_function = None  # not reached
    with pytest.raises(
        ValueError, match=r"divide .* chunks=5, 1 replica\(s\), a batch of 16 images"
    ):
        model.fit(batches(), verbose=0)
    with two_replicas.scope():
        model = simclr(plain())
        model.compile("sgd", chunks=16)
    with pytest.raises(ValueError, match=r"chunks=16, 2 replica\(s\), a batch of 16 images"):
        model.fit(batches(), verbose=0)
