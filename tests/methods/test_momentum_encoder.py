"""MomentumEncoder on the methods of the package, and on other Keras models with a target network."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.backbones import Tiny
from keras_ssl.callbacks import MomentumEncoder
from keras_ssl.data.parallel import with_threads
from keras_ssl.layers import MLPHead, target_network
from keras_ssl.methods import BYOL, MoCo, SimCLR

SHAPE = (8, 8, 3)


def cosine(step, total, first, final=1.0):
    """Section 3.3 of BYOL, where `final` is 1."""
    step = min(step, total)
    return final - (final - first) * (np.cos(np.pi * step / total) + 1) / 2


class Own(keras.Model):
    """A model that is not of this package. It only has the names and a target network."""

    def __init__(self, names=("encoder", "target_encoder")):
        super().__init__()
        online = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        setattr(self, names[0], online)
        setattr(self, names[1], target_network(online))
        self.networks = [names]

    def call(self, inputs):
        return getattr(self, self.networks[0][0])(inputs)


class Recorder(keras.callbacks.Callback):
    """Records the kernels of both networks after each batch."""

    def on_train_begin(self, logs=None):
        self.after = [self.kernels()]

    def on_train_batch_end(self, batch, logs=None):
        self.after.append(self.kernels())

    def kernels(self):
        online, target = (getattr(self.model, name) for name in self.model.networks[0])
        return [np.asarray(network.weights[0]).copy() for network in (online, target)]


def own_model(names=("encoder", "target_encoder"), **compile_arguments):
    keras.utils.set_random_seed(1)
    model = Own(names)
    model.compile(**{"optimizer": keras.optimizers.SGD(0.1), "loss": "mse", **compile_arguments})
    return model


def own_data(count):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(count * 2, 4)), random.normal(size=(count * 2, 3))
    return with_threads(tf.data.Dataset.from_tensor_slices((x, y)).batch(2, drop_remainder=True))


def views(count=3):
    values = np.random.default_rng(0).random((2, count * 4, *SHAPE), np.float32)
    return with_threads(
        tf.data.Dataset.from_tensor_slices((values[0], values[1])).batch(4, drop_remainder=True)
    )


def fit_own(model, callbacks, count=5, epochs=1):
    return model.fit(
        own_data(count), epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks
    ).history


def method(optimizer=None, **compile_arguments):
    keras.utils.set_random_seed(1)
    heads = (MLPHead(4, 8, batch_norm=True, name=name) for name in ("projector", "predictor"))
    model = BYOL(Tiny(SHAPE, features=8), *heads)
    model.compile(optimizer or keras.optimizers.SGD(0.01), **compile_arguments)
    return model


def assert_moving_average(after, momenta):
    """Compares the targets after each batch with the momentum of each batch."""
    target = after[0][1].astype("float64")
    for (online, own), momentum in zip(after[1:], momenta, strict=True):
        target = momentum * target + (1 - momentum) * online
        np.testing.assert_allclose(own, target, atol=1e-6)


@pytest.mark.parametrize("names", [("encoder", "target_encoder"), ("online", "target")])
@pytest.mark.parametrize(("first", "final"), [(0.5, 1.0), (0.9, 0.9), (0.0, 0.0), (0.8, 0.2)])
def test_the_target_of_another_model_moves_after_each_batch(names, first, final):
    model, recorder = own_model(names), Recorder()
    callbacks = [MomentumEncoder(first, final), recorder]
    logs = fit_own(model, callbacks, epochs=2)
    momenta = [cosine(step, 10, first, final) for step in range(10)]
    assert_moving_average(recorder.after, momenta)
    assert logs["momentum"] == pytest.approx([momenta[4], momenta[9]], abs=1e-6)


def test_the_target_of_another_model_moves_once_per_accumulated_step():
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    model, recorder = own_model(optimizer=optimizer), Recorder()
    fit_own(model, [MomentumEncoder(0.5), recorder], count=4, epochs=2)
    steps = [cosine(step, 4, 0.5) for step in range(4)]
    momenta = [1.0 if batch % 2 == 0 else steps[batch // 2] for batch in range(8)]
    assert_moving_average(recorder.after, momenta)


def test_the_target_of_another_model_does_not_move_if_loss_scaling_skips_the_step():
    scaled = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.1), initial_scale=float("inf")
    )
    model, recorder = own_model(optimizer=scaled), Recorder()
    fit_own(model, [MomentumEncoder(0.5), recorder])
    for kernels in recorder.after[1:]:
        np.testing.assert_array_equal(kernels, recorder.after[0])


def test_another_model_with_several_steps_per_execution_is_refused():
    model = own_model(steps_per_execution=2)
    with pytest.raises(
        ValueError,
        match=r"`steps_per_execution` must be 1 .* Received: Own compiled with steps_per_execution=2",
    ):
        fit_own(model, [MomentumEncoder(0.5)], count=4)


def test_a_model_without_a_target_is_refused():
    model = SimCLR(Tiny(SHAPE, features=8))
    model.compile("sgd")
    with pytest.raises(
        ValueError, match=r"needs a model with a target network: .* Received: SimCLR, without one"
    ):
        model.fit(views(), verbose=0, callbacks=[MomentumEncoder()])


@pytest.mark.parametrize("steps_per_execution", [1, 2])
def test_a_method_gets_the_schedule(steps_per_execution):
    model = method(steps_per_execution=steps_per_execution)
    logs = model.fit(views(), epochs=3, verbose=0, callbacks=[MomentumEncoder(0.9, 0.99)]).history
    expected = [cosine(step, 9, 0.9, 0.99) for step in range(10)]
    assert [float(model.momentum(step)) for step in range(10)] == pytest.approx(expected, abs=1e-6)
    assert logs["momentum"] == pytest.approx([expected[step] for step in (2, 5, 8)], abs=1e-6)


def test_the_schedule_counts_steps_of_the_optimizer():
    optimizer = keras.optimizers.SGD(0.01, gradient_accumulation_steps=2)
    model = method(optimizer)
    logs = model.fit(views(4), epochs=3, verbose=0, callbacks=[MomentumEncoder(0.9)]).history
    expected = [cosine(step, 6, 0.9) for step in (1, 3, 5)]
    assert logs["momentum"] == pytest.approx(expected, abs=1e-6)


def test_total_steps_can_be_given():
    model = method()
    callback = MomentumEncoder(0.9, total_steps=100)
    logs = model.fit(views(), epochs=2, verbose=0, callbacks=[callback]).history
    expected = [cosine(step, 100, 0.9) for step in (2, 5)]
    assert logs["momentum"] == pytest.approx(expected, abs=1e-6)


def test_steps_per_epoch_of_fit_are_used():
    model = method()
    arguments = {"epochs": 2, "steps_per_epoch": 2, "verbose": 0}
    logs = model.fit(views().repeat(), callbacks=[MomentumEncoder(0.9)], **arguments).history
    assert logs["momentum"] == pytest.approx([cosine(step, 4, 0.9) for step in (1, 3)], abs=1e-6)


@pytest.mark.large
def test_a_second_fit_starts_a_new_schedule():
    model, callback = method(), MomentumEncoder(0.9)
    first = model.fit(views(), epochs=2, verbose=0, callbacks=[callback]).history
    second = model.fit(views(), epochs=2, verbose=0, callbacks=[callback]).history
    assert second["momentum"] == pytest.approx(first["momentum"], abs=1e-6)
    # Step 6 is the first of the second training.
    assert float(model.momentum(6)) == pytest.approx(0.9)


def test_a_longer_second_fit_starts_a_new_schedule():
    model = method()
    model.fit(views(), epochs=1, verbose=0, callbacks=[MomentumEncoder(0.5)])
    logs = model.fit(views(), epochs=3, verbose=0, callbacks=[MomentumEncoder(0.5)]).history
    expected = [cosine(step, 9, 0.5) for step in (2, 5, 8)]
    assert logs["momentum"] == pytest.approx(expected, abs=1e-6)


class StopAfter(keras.callbacks.Callback):
    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def on_train_batch_end(self, batch, logs=None):
        self.batches -= 1
        if self.batches == 0:
            raise KeyboardInterrupt


@pytest.mark.large
def test_a_training_resumed_at_an_epoch_keeps_its_schedule():
    whole = method()
    expected = whole.fit(views(), epochs=4, verbose=0, callbacks=[MomentumEncoder(0.9)]).history
    model = method()
    stopped = [MomentumEncoder(0.9), StopAfter(6)]
    with pytest.raises(KeyboardInterrupt):
        model.fit(views(), epochs=4, verbose=0, callbacks=stopped)
    logs = model.fit(
        views(), epochs=4, initial_epoch=2, verbose=0, callbacks=[MomentumEncoder(0.9)]
    ).history
    assert logs["momentum"] == expected["momentum"][2:]
    for theirs, own in zip(whole.weights, model.weights, strict=True):
        np.testing.assert_array_equal(own, theirs)


def test_a_training_resumed_within_an_epoch_keeps_its_schedule():
    whole = method()
    callback = MomentumEncoder(0.9, total_steps=12)
    whole.fit(views(), epochs=4, verbose=0, callbacks=[callback])
    model = method()
    with pytest.raises(KeyboardInterrupt):
        model.fit(views(), epochs=4, verbose=0, callbacks=[callback, StopAfter(7)])
    # The rest of the epoch is a separate fit.
    rest = {"epochs": 3, "initial_epoch": 2, "verbose": 0, "callbacks": [callback]}
    model.fit(views().skip(1), **rest)
    model.fit(views(), epochs=4, initial_epoch=3, verbose=0, callbacks=[callback])
    for theirs, own in zip(whole.weights, model.weights, strict=True):
        np.testing.assert_array_equal(own, theirs)


def endless():
    spec = tf.TensorSpec((4, *SHAPE))
    values = np.random.default_rng(0).random((2, 4, *SHAPE), np.float32)

    def generate():
        for _ in range(3):
            yield values[0], values[1]

    return tf.data.Dataset.from_generator(generate, output_signature=(spec, spec))


def test_a_changing_momentum_needs_the_number_of_steps():
    with pytest.raises(
        ValueError, match=r"pass `total_steps` here or `steps_per_epoch` to `fit`\. Received: data"
    ):
        method().fit(endless(), verbose=0, callbacks=[MomentumEncoder(0.9, final=1.0)])


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize(
    "callback", [MomentumEncoder(0.9, final=0.9), MomentumEncoder(0.9, total_steps=6)]
)
def test_data_of_unknown_length_are_accepted_if_the_number_of_steps_is_not_needed(callback):
    logs = method().fit(endless(), verbose=0, callbacks=[callback]).history
    expected = 0.9 if callback.final == 0.9 else cosine(2, 6, 0.9)
    assert logs["momentum"] == pytest.approx([expected], abs=1e-6)


def messages(caplog):
    return [text for name, _, text in caplog.record_tuples if name == "keras_ssl"]


def test_a_fit_without_the_callback_uses_the_papers_momentum_and_warns_once(caplog):
    model = method()
    with caplog.at_level(logging.WARNING, logger="keras_ssl"):
        logs = [model.fit(views(), verbose=0).history for _ in range(2)]
    assert messages(caplog) == [
        "BYOL uses its paper's momentum, 0.996 to 1. Pass "
        "keras_ssl.callbacks.MomentumEncoder to change it."
    ]
    for history in logs:
        assert history["momentum"] == pytest.approx([cosine(2, 3, 0.996)], abs=1e-6)


def test_moco_without_the_callback_keeps_0_999(caplog):
    model = MoCo(Tiny(SHAPE, features=8), MLPHead(4), queue_size=6)
    model.compile("sgd")
    with caplog.at_level(logging.WARNING, logger="keras_ssl"):
        logs = model.fit(views(), epochs=2, verbose=0).history
    assert len(messages(caplog)) == 1
    assert "MoCo uses its paper's momentum, 0.999 to 0.999." in messages(caplog)[0]
    assert logs["momentum"] == pytest.approx([0.999, 0.999], abs=1e-6)


@pytest.mark.large
def test_a_fit_with_the_callback_does_not_warn(caplog):
    with caplog.at_level(logging.WARNING, logger="keras_ssl"):
        method().fit(views(), verbose=0, callbacks=[MomentumEncoder(0.9)])
        model = method()
        both = [keras.callbacks.History(), MomentumEncoder(0.9)]
        listed = keras.callbacks.CallbackList(both, model=model, epochs=1, steps=3)
        model.fit(views(), verbose=0, callbacks=listed)
    assert messages(caplog) == []


def test_a_callback_list_without_the_callback_gets_the_default():
    model = method()
    listed = keras.callbacks.CallbackList(
        [keras.callbacks.History()], model=model, epochs=1, steps=3, verbose=0
    )
    model.fit(views(), verbose=0, callbacks=listed)
    assert float(model.momentum(0)) == pytest.approx(0.996)
    assert float(model.momentum(3)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"momentum": 1.5}, r"`momentum` must lie in \[0, 1\]. Received: momentum=1.5"),
        ({"final": -0.1}, r"`final` must lie in \[0, 1\]. Received: final=-0.1"),
        ({"total_steps": 0}, r"`total_steps` must be positive. Received: total_steps=0"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MomentumEncoder(**arguments)
