"""MoCo: loss, queue, versions 1 and 2, and shuffled keys. See tests/contract.py for the rest."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.backbones import Tiny
from keras_ssl.callbacks import MomentumEncoder
from keras_ssl.data.parallel import with_threads
from keras_ssl.layers import BatchNorm, MLPHead, SplitBatchNorm, split_batch_norm
from keras_ssl.methods import MoCo

SHAPE = (8, 8, 3)


def views(batch=4, count=1, seed=0):
    return np.random.default_rng(seed).random((2, count * batch, *SHAPE), np.float32)


def data(batch=4, count=1):
    values = views(batch, count)
    return with_threads(
        tf.data.Dataset.from_tensor_slices((values[0], values[1])).batch(batch, True)
    )


def moco(projector=None, **arguments):
    keras.utils.set_random_seed(1)
    projector = projector or MLPHead(6)
    return MoCo(Tiny(SHAPE, features=8), projector, **{"queue_size": 10, **arguments})


def unit(vectors):
    vectors = np.asarray(vectors, "float64")
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def online(model, view):
    return unit(model.projector(model.backbone(view, training=True), training=True))


def target(model, view):
    return unit(model.target_projector(model.target_backbone(view, training=True), training=True))


def info_nce(q, k, negatives, temperature):
    """Equation 1, for each query."""
    positive = np.exp((q * k).sum(axis=1) / temperature)
    others = np.exp(q @ np.asarray(negatives, "float64").T / temperature).sum(axis=1)
    return -np.log(positive / (positive + others)).mean()


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_step_uses_the_old_queue_and_then_adds_the_keys(symmetric):
    model = moco(symmetric=symmetric)
    # Make the target different from the online network, to tell them apart.
    for weight in model.target_backbone.weights:
        weight.assign(weight * 1.5 + 0.1)
    view_1, view_2 = views()
    queue = np.asarray(model.queue.keys).copy()
    k_1, k_2 = target(model, view_1), target(model, view_2)
    expected = info_nce(online(model, view_1), k_2, queue, 0.2)
    entered = [k_2]
    if symmetric:
        expected += info_nce(online(model, view_2), k_1, queue, 0.2)
        entered = [k_1, k_2]

    model.compile(keras.optimizers.SGD(0.1))
    callbacks = [MomentumEncoder(0.5, final=0.5)]
    logs = model.fit(data(), verbose=0, callbacks=callbacks).history
    assert logs["loss"][0] == pytest.approx(expected, rel=1e-5)
    entered = np.concatenate(entered)
    np.testing.assert_allclose(model.queue.keys[: len(entered)], entered, atol=1e-5)
    np.testing.assert_array_equal(model.queue.keys[len(entered) :], queue[len(entered) :])
    assert int(model.queue.pointer) == len(entered)


def test_the_queue_replaces_the_oldest_keys():
    model = moco()
    model.compile(keras.optimizers.SGD(0.0))
    seen = np.concatenate([target(model, view) for view in np.split(views(count=3)[1], 3)])
    model.fit(data(count=3), verbose=0, callbacks=[MomentumEncoder(1.0)])
    # 12 keys for 10 places: the last two have replaced the first two.
    np.testing.assert_allclose(model.queue.keys, [*seen[10:], *seen[2:10]], atol=1e-5)
    assert int(model.queue.pointer) == 2


def test_version_2_is_the_default():
    model = MoCo(Tiny(SHAPE, features=8))
    kernels = [w.shape for w in model.projector.weights if w.name == "kernel"]
    assert kernels == [(8, 8), (8, 128)]
    assert model.queue.keys.shape == (65536, 128)
    assert (model.temperature, model.symmetric) == (0.2, False)
    assert model.default_momentum == (0.999, 0.999)


def test_version_1():
    model = moco(MLPHead(128, depth=1), temperature=0.07)
    assert [w.shape for w in model.projector.weights] == [(8, 128), (128,)]
    view_1, view_2 = views()
    expected = info_nce(online(model, view_1), target(model, view_2), model.queue.keys, 0.07)
    assert float(model.ssl_loss(view_1, view_2)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("size", "known", "warns"), [(10, True, True), (8, True, False), (10, False, False)]
)
def test_warns_of_a_queue_larger_than_the_data(size, known, warns, caplog):
    model = moco(queue_size=size)
    model.compile("sgd")
    batches = data(count=2) if known else data(count=2).filter(lambda *views: True)
    with caplog.at_level(logging.WARNING, logger="keras_ssl"):
        model.fit(batches, verbose=0, callbacks=[MomentumEncoder(0.9, 0.9)], steps_per_epoch=2)
    expected = (
        "The queue holds 10 keys, but an epoch adds only 8 keys of 8 images: older keys of an "
        "image are among its negatives. Use a `queue_size` of at most 4."
    )
    messages = [text for name, _, text in caplog.record_tuples if name == "keras_ssl"]
    assert messages == ([expected] if warns else [])


# Shuffling


def revealing(norm):
    """Returns a model whose keys show which images were normalized together.

    Each image has one bright channel. The key of an image is nonzero in the bright channels of the
    images in its group, and zero in all others.
    """
    backbone = keras.Sequential([keras.Input((1, 1, 8)), norm, keras.layers.Flatten()])
    head = MLPHead(8, depth=1)
    head.build((None, 8))
    head.set_weights([np.eye(8), np.zeros(8)])
    return MoCo(backbone, head, queue_size=5)


IMAGES = np.eye(8, dtype="float32").reshape((8, 1, 1, 8))


def groups_of(keys):
    """Returns the groups that were normalized together; checks that keys are in image order."""
    keys = np.asarray(keys)
    assert np.array_equal(keys.argmax(axis=1), np.arange(8))
    groups = [frozenset(np.flatnonzero(np.abs(key) > 1e-6)) for key in keys]
    assert all(groups[image] == group for group in groups for image in group)
    return set(groups)


QUERIES = {frozenset((0, 1)), frozenset((2, 3)), frozenset((4, 5)), frozenset((6, 7))}


def test_keys_are_normalized_in_other_groups_than_queries():
    model = revealing(SplitBatchNorm(4, momentum=0.9))
    queries = model.projector(model.backbone(IMAGES, training=True))
    assert groups_of(queries) == QUERIES
    seen = []
    for pointer in range(5):
        model.queue.pointer.assign(pointer)
        groups = groups_of(model.keys(IMAGES))
        assert [len(group) for group in groups] == [2] * 4
        assert groups == groups_of(model.keys(IMAGES))  # a function of the state
        seen.append(groups)
    assert len({frozenset(groups) for groups in seen}) == 5
    # At random, a pair stays together with probability 1/7.
    assert np.mean([len(groups & QUERIES) for groups in seen]) < 1.5


def test_keys_are_shuffled_over_two_replicas(two_replicas):
    def halves(values):
        return two_replicas.experimental_distribute_values_from_function(
            lambda context: tf.constant(values[4 * context.replica_id_in_sync_group :][:4])
        )

    def keys_of(norm):
        with two_replicas.scope():
            model = revealing(norm())
        run = tf.function(lambda view: two_replicas.run(model.keys, args=(view,)), autograph=False)
        first, second = two_replicas.experimental_local_results(run(halves(IMAGES)))
        np.testing.assert_array_equal(first, second)  # both have all keys
        return first

    local = keys_of(lambda: BatchNorm(synchronized=False))
    queries = {frozenset(range(4)), frozenset(range(4, 8))}
    assert groups_of(local) != queries
    assert [len(group) for group in groups_of(local)] == [4, 4]
    # One device with as many groups gives the same keys in the same order.
    single = revealing(SplitBatchNorm(2))
    np.testing.assert_allclose(local, single.keys(IMAGES), atol=1e-5)
    split = keys_of(lambda: SplitBatchNorm(4))
    np.testing.assert_allclose(split, revealing(SplitBatchNorm(4)).keys(IMAGES), atol=1e-5)
    # With synchronized statistics there is only one group, and nothing to shuffle.
    assert groups_of(keys_of(BatchNorm)) == {frozenset(range(8))}


def test_keys_have_length_one_and_no_gradient():
    model = moco()
    view = tf.constant(views()[0])
    with tf.GradientTape() as tape:
        tape.watch(view)
        keys = model.keys(view)
    np.testing.assert_allclose(np.linalg.norm(keys, axis=1), 1, rtol=1e-5)
    assert tape.gradient(keys, view) is None


def test_groups_that_do_not_divide_the_batch_are_refused():
    model = MoCo(split_batch_norm(Tiny(SHAPE, features=8), groups=3), MLPHead(4), queue_size=8)
    model.compile("sgd")
    with pytest.raises(ValueError, match="groups=3, 1 replicas, batch per replica 4"):
        model.fit(data(count=2), verbose=0, callbacks=[MomentumEncoder(0.9, 0.9)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0}, r"`temperature` must be positive\. Received: temperature=0"),
        ({"queue_size": 0}, r"`queue_size` must be at least 1\. Received: queue_size=0"),
    ],
)
def test_refuses_numbers_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        moco(**arguments)
