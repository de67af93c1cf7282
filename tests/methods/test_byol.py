"""BYOL: the loss, the heads, and the fixed random target. See tests/contract.py for the rest."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.backbones import Tiny
from keras_ssl.callbacks import MomentumEncoder
from keras_ssl.data.parallel import with_threads
from keras_ssl.layers import MLPHead
from keras_ssl.methods import BYOL

SHAPE = (8, 8, 3)


def views(batch=4, seed=0):
    return np.random.default_rng(seed).random((2, batch, *SHAPE), np.float32)


def data(count=1):
    values = views(4 * count)
    return with_threads(tf.data.Dataset.from_tensor_slices((values[0], values[1])).batch(4))


def byol(**arguments):
    keras.utils.set_random_seed(1)
    heads = {
        name: MLPHead(6, 12, batch_norm=True, name=name) for name in ("projector", "predictor")
    }
    return BYOL(Tiny(SHAPE, features=8), **{**heads, **arguments})


def unit(vectors):
    vectors = np.asarray(vectors, "float64")
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_each_view_predicts_the_target_embedding_of_the_other():
    model = byol()
    for weight in model.target_backbone.weights:
        weight.assign(weight * 1.5 + 0.1)

    def prediction(view):
        z = model.projector(model.backbone(view, training=True), training=True)
        return unit(model.predictor(z, training=True))

    def target(view):
        h = model.target_backbone(view, training=True)
        return unit(model.target_projector(h, training=True))

    view_1, view_2 = views()
    expected = ((prediction(view_1) - target(view_2)) ** 2).sum(axis=1).mean()
    expected += ((prediction(view_2) - target(view_1)) ** 2).sum(axis=1).mean()
    assert float(model.ssl_loss(view_1, view_2)) == pytest.approx(expected, rel=1e-5)
    model.compile("sgd")
    logs = model.fit(data(), verbose=0, callbacks=[MomentumEncoder()]).history
    assert logs["loss"][0] == pytest.approx(expected, rel=1e-5)


def test_a_fixed_random_target():
    model = byol()
    model.compile(keras.optimizers.SGD(0.1))
    start = [np.asarray(weight).copy() for weight in model.target_backbone.weights]
    model.fit(data(3), epochs=2, verbose=0, callbacks=[MomentumEncoder(1.0)])
    for weight, old in zip(model.target_backbone.weights, start, strict=True):
        # Only its batch statistics change, with the batches that it sees.
        assert np.array_equal(weight, old) != weight.name.startswith("moving_")
    for weight, old in zip(model.backbone.trainable_weights, start, strict=False):
        assert weight.name != "kernel" or not np.array_equal(weight, old)


def test_the_default_heads_match_the_paper():
    model = BYOL(Tiny(SHAPE, features=8))
    for head, width in ((model.projector, 8), (model.predictor, 256)):
        shapes = [weight.shape for weight in head.weights if weight.name == "kernel"]
        assert shapes == [(width, 4096), (4096, 256)]
        assert head.batch_norm
    assert model.default_momentum == (0.996, 1.0)


def test_the_predictor_has_no_target():
    model = byol()
    assert not hasattr(model, "target_predictor")
    assert model.target_projector.get_config() == {
        **model.projector.get_config(),
        "name": "target_projector",
    }


def test_the_default_predictor_has_the_projectors_dimension():
    assert byol(predictor=None).predictor.units == 6


def test_refuses_a_predictor_of_another_dimension():
    with pytest.raises(ValueError, match="Received: 6 from the projector, 5 from the predictor"):
        byol(predictor=MLPHead(5))
