"""CosineMomentum as a function of the step, and the update of target networks."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.backbones import Tiny
from keras_ssl.layers import MLPHead
from keras_ssl.methods import BYOL
from keras_ssl.methods.momentum_encoder import CosineMomentum

SHAPE = (8, 8, 3)


def twin(step, first, final, total, origin=0):
    progress = min(max((step - origin) / total, 0.0), 1.0)
    return final - (final - first) * (np.cos(np.pi * progress) + 1) / 2


@pytest.mark.parametrize(("first", "final"), [(0.996, 1.0), (0.5, 0.9), (1.0, 0.0)])
@pytest.mark.parametrize("origin", [0, 7])
def test_the_momentum_goes_from_first_to_final_by_half_a_cosine(first, final, origin):
    momentum = CosineMomentum(first, final, total_steps=50, origin=origin)
    for step in range(80):
        expected = pytest.approx(twin(step, first, final, 50, origin), abs=1e-6)
        assert float(momentum(step)) == expected
        assert float(momentum(tf.constant(step, tf.int64))) == expected


def test_the_momentum_is_constant_if_first_equals_final():
    momentum = CosineMomentum(0.999, 0.999)
    assert [float(momentum(step)) for step in (0, 10**6)] == pytest.approx([0.999, 0.999])
    assert float(CosineMomentum(1.0, 1.0)(5)) == 1.0


def test_the_momentum_is_exact_over_a_long_training():
    momentum = CosineMomentum(0.996, 1.0, total_steps=10**6)
    for step in (1, 10**3, 5 * 10**5, 10**6 - 1, 10**6):
        # float32 has steps of 6e-8 below 1.
        assert float(momentum(step)) == pytest.approx(twin(step, 0.996, 1.0, 10**6), abs=1.2e-7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.1, 1.0), r"`first` must lie in \[0, 1\]\. Received: first=1\.1"),
        ((0.9, -1.0), r"`final` must lie in \[0, 1\]\. Received: final=-1\.0"),
        ((0.9, 1.0, 0), r"`total_steps` must be positive\. Received: total_steps=0"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        CosineMomentum(*arguments)


def model():
    keras.utils.set_random_seed(1)
    heads = (MLPHead(4, 8, batch_norm=True, name=name) for name in ("projector", "predictor"))
    made = BYOL(Tiny(SHAPE, features=8), *heads)
    made.compile("sgd")
    made.optimizer.build(made.trainable_variables)
    return made


@pytest.mark.parametrize("moved", [True, False])
def test_targets_move_if_the_weights_have_moved(moved):
    trained = model()
    trained.momentum = CosineMomentum(0.0, 1.0, total_steps=4)
    before = np.asarray(trained.target_backbone.weights[0]).copy()
    trained.backbone.weights[0].assign(before + 1)
    trained.optimizer.iterations.assign(3)  # the step just taken had number 2
    trained.move_targets(tf.constant(moved))
    expected = before + 0.5 if moved else before
    np.testing.assert_allclose(trained.target_backbone.weights[0], expected, atol=1e-6)
    if not moved:
        np.testing.assert_array_equal(trained.target_backbone.weights[0], before)


def test_another_schedule_applies_from_the_next_step():
    trained = model()
    trained.make_train_function()
    first = trained.train_function
    trained.momentum = schedule = CosineMomentum(0.5, 0.5)
    assert trained.momentum is schedule
    assert trained.train_function is not first  # its graph held the old schedule
    second = trained.train_function
    trained.momentum = CosineMomentum(0.5, 0.5)
    assert trained.train_function is second  # which costs no second graph
    assert trained.make_train_function() is None


def test_the_default_momentum_is_that_of_the_method():
    assert model().momentum == CosineMomentum(0.996, 1.0)
