"""SimCLR: the loss and the defaults. tests/contract.py and test_base.py test what methods share."""

import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.backbones import Tiny
from keras_ssl.layers import ProjectionHead
from keras_ssl.methods import SimCLR

SHAPE = (8, 8, 3)


def test_both_views_share_batch_statistics():
    model = SimCLR(Tiny(SHAPE, features=16), ProjectionHead(8), temperature=0.5)
    view_1, view_2 = np.random.default_rng(0).random((2, 6, *SHAPE), np.float32)
    h = model.backbone(np.concatenate([view_1, view_2]), training=True)
    z = np.asarray(model.projector(h, training=True), "float64")
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    similarity = np.exp(z @ z.T / 0.5)
    np.fill_diagonal(similarity, 0)
    positives = similarity[np.arange(12), (np.arange(12) + 6) % 12]
    expected = -np.log(positives / similarity.sum(axis=1)).mean()
    assert float(model.ssl_loss(tf.constant(view_1), tf.constant(view_2))) == pytest.approx(
        expected, rel=1e-4
    )


def test_the_defaults_match_the_paper():
    model = SimCLR(Tiny(SHAPE, features=16))
    kernels = [weight.shape for weight in model.projector.weights if weight.name == "kernel"]
    assert kernels == [(16, 16), (16, 128)]
    assert model.temperature == 0.1


def test_refuses_a_negative_temperature():
    with pytest.raises(
        ValueError, match=r"`temperature` must be positive\. Received: temperature=-1"
    ):
        SimCLR(Tiny(SHAPE), temperature=-1)
