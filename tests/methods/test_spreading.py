"""InvariantSpreading: its defaults and its relation to SimCLR. See tests/contract.py for the rest."""

import keras
import numpy as np
import pytest

from keras_ssl.backbones import Tiny
from keras_ssl.layers import MLPHead
from keras_ssl.methods import InvariantSpreading, SimCLR

SHAPE = (8, 8, 3)


def test_without_spreading_the_loss_is_that_of_simclr():
    views = np.random.default_rng(0).random((2, 6, *SHAPE), np.float32)
    losses = []
    for method, extra in ((InvariantSpreading, {"spread_weight": 0.0}), (SimCLR, {})):
        keras.utils.set_random_seed(1)
        model = method(Tiny(SHAPE, features=8), MLPHead(6, depth=1), temperature=0.5, **extra)
        losses.append(float(model.ssl_loss(*views)))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_the_defaults_match_the_paper():
    model = InvariantSpreading(Tiny(SHAPE, features=8))
    assert [w.shape for w in model.projector.weights] == [(8, 128), (128,)]
    assert (model.temperature, model.spread_weight) == (0.1, 1.0)


def test_refuses_numbers_out_of_range():
    with pytest.raises(ValueError, match=r"`temperature` must be positive\. Received: temp.*=-1"):
        InvariantSpreading(Tiny(SHAPE), temperature=-1)
    with pytest.raises(ValueError, match=r"not be negative\. Received: spread_weight=-2"):
        InvariantSpreading(Tiny(SHAPE), spread_weight=-2)
