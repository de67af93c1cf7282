"""SimCLRMemory: the loss, the queue and the defaults. See tests/contract.py for the rest."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.backbones import Tiny
from keras_ssl.callbacks import MomentumEncoder
from keras_ssl.data.parallel import with_threads
from keras_ssl.layers import MLPHead, ProjectionHead
from keras_ssl.methods import SimCLRMemory
from tests.tiers import rest_large

SHAPE = (8, 8, 3)
BATCH = 4


def views(count=1):
    return np.random.default_rng(0).random((2, count * BATCH, *SHAPE), np.float32)


def data(count=1):
    values = views(count)
    return with_threads(
        tf.data.Dataset.from_tensor_slices((values[0], values[1])).batch(BATCH, True)
    )


def simclr_memory(**arguments):
    keras.utils.set_random_seed(1)
    defaults = {"projector": ProjectionHead(6, depth=3), "queue_size": 11}
    return SimCLRMemory(Tiny(SHAPE, features=8), **{**defaults, **arguments})


def unit(vectors):
    vectors = np.asarray(vectors, "float64")
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def embeddings(backbone, projector, view_1, view_2):
    """Returns the embeddings of both views, which are normalized together."""
    h = backbone(np.concatenate([view_1, view_2]), training=True)
    return np.split(unit(projector(h, training=True)), 2)


def slow_loss(z, k, queue, temperature):
    """Computes the loss with loops over queries and keys.

    Args:
        z: z[v][i] is the online embedding of view v of image i.
        k: k[v][i] is the target embedding of view v of image i.
        queue: keys of earlier batches.
        temperature: temperature of the loss.
    """
    losses = []
    for view in (0, 1):
        for image in range(len(z[0])):

            def weight(key, q=z[view][image]):
                return np.exp(q @ key / temperature)

            positive = weight(k[1 - view][image])
            negatives = [weight(key) for key in queue]
            for other in range(len(z[0])):
                if other != image:
                    negatives += [weight(k[0][other]), weight(k[1][other])]
            losses.append(-np.log(positive / (positive + sum(negatives))))
    return np.mean(losses)


def test_a_step_uses_the_old_queue_and_then_adds_the_keys_of_both_views():
    model = simclr_memory()
    # Make the target different from the online network, to tell them apart.
    random = np.random.default_rng(2)
    for weight in model.target_backbone.weights + model.target_projector.weights:
        weight.assign(weight * random.uniform(0.5, 1.5, weight.shape) + 0.1)
    queue = np.asarray(model.queue.keys, "float64")
    z = embeddings(model.backbone, model.projector, *views())
    k = embeddings(model.target_backbone, model.target_projector, *views())
    expected = slow_loss(z, k, queue, temperature=0.1)

    model.compile(keras.optimizers.SGD(0.1))
    callbacks = [MomentumEncoder(0.5, final=0.5)]
    logs = model.fit(data(), verbose=0, callbacks=callbacks).history
    assert logs["loss"][0] == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(model.queue.keys[: 2 * BATCH], np.concatenate(k), atol=1e-5)
    np.testing.assert_array_equal(model.queue.keys[2 * BATCH :], queue[2 * BATCH :])
    assert int(model.queue.pointer) == 2 * BATCH


def test_only_keys_of_the_same_image_are_excluded():
    first, second = [1, 0, 1, 0], [0, 1, 0, 1]
    found = simclr_memory().same_image(2)
    np.testing.assert_array_equal(found, np.array([first, second] * 2, bool))


def test_replicas_exclude_their_own_images(two_replicas):
    with two_replicas.scope():
        model = simclr_memory(queue_size=1)
    run = tf.function(lambda: two_replicas.run(model.same_image, (1,)), autograph=False)
    masks = two_replicas.experimental_local_results(run())
    np.testing.assert_array_equal(masks, np.array([[[1, 0, 1, 0]] * 2, [[0, 1, 0, 1]] * 2]))


def test_the_loss_at_collapse():
    head = MLPHead(6, depth=1)
    head.build((None, 8))
    head.set_weights([np.zeros((8, 6)), np.ones(6)])
    model = simclr_memory(projector=head)
    model.queue.keys.assign(np.full((11, 6), 6**-0.5))
    loss = float(model.ssl_loss(*views()))
    assert loss == pytest.approx(np.log(1 + 2 * (BATCH - 1) + 11), rel=1e-5)


def test_the_defaults_match_the_paper():
    model = SimCLRMemory(Tiny(SHAPE, features=8))
    kernels = [weight.shape for weight in model.projector.weights if weight.name == "kernel"]
    assert kernels == [(8, 8), (8, 8), (8, 128)]
    assert model.queue.keys.shape == (65536, 128)
    assert model.temperature == 0.1
    assert model.default_momentum == (0.999, 0.999)


@pytest.mark.parametrize(
    ("size", "known", "warns"),
    rest_large([(17, True, True), (16, True, False), (17, False, False)]),
)
def test_warns_of_a_queue_larger_than_an_epoch(size, known, warns, caplog):
    model = simclr_memory(queue_size=size)
    model.compile("sgd")
    batches = data(count=2) if known else data(count=2).filter(lambda *views: True)
    with caplog.at_level(logging.WARNING, logger="keras_ssl"):
        model.fit(batches, verbose=0, callbacks=[MomentumEncoder(0.9, 0.9)], steps_per_epoch=2)
    expected = (
        "The queue holds 17 keys, but an epoch adds only 16 keys of 8 images: older keys of an "
        "image are among its negatives. Use a `queue_size` of at most 8."
    )
    messages = [text for name, _, text in caplog.record_tuples if name == "keras_ssl"]
    assert messages == ([expected] if warns else [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0}, r"`temperature` must be positive\. Received: temperature=0"),
        ({"queue_size": 0}, r"`queue_size` must be at least 1\. Received: queue_size=0"),
    ],
)
def test_refuses_numbers_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        simclr_memory(**arguments)
