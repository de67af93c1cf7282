"""Checkpoints are written completely or not at all, and runs resume exactly."""

import os
import signal
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import data
from keras_ssl.augment import Augmentation, Policy, RandomFlip
from keras_ssl.backbones import Tiny
from keras_ssl.callbacks import (
    Checkpoint,
    CollapseMonitor,
    Interrupted,
    checkpoint,
    checkpoint_files,
    collapse_monitor,
    restore,
)
from keras_ssl.callbacks.checkpoint_files import checkpoints
from keras_ssl.methods import SimCLR
from tests.tiers import rest_large

STEPS = 4
EPOCHS = 3
POLICY = Policy(Augmentation([RandomFlip()]), Augmentation([RandomFlip()]))


def source():
    pixels = np.random.default_rng(0).integers(0, 256, (35, 4, 4, 1), np.uint8)
    return data.arrays(pixels)


def model(seed=0, steps_per_execution=1):
    keras.utils.set_random_seed(seed)
    built = SimCLR(Tiny((4, 4, 1), features=8), temperature=0.5)
    built.compile(keras.optimizers.Adam(0.01), steps_per_execution=steps_per_execution)
    return built


def fit(trained, directory, start=0, callbacks=(), epochs=EPOCHS, **arguments):
    checkpoint = Checkpoint(directory, STEPS, start, **arguments)
    views = data.views(source(), POLICY, batch_size=8, seed=5, start=start)
    try:
        trained.fit(
            views,
            epochs=epochs,
            initial_epoch=start // STEPS,
            verbose=0,
            callbacks=[*callbacks, checkpoint],
        )
    finally:
        checkpoint.stop()
    return checkpoint


def state(trained):
    """Returns (path, value) of all variables that the next step depends on."""
    variables = [*trained.backbone.variables, *trained.projector.variables]
    variables += trained.optimizer.variables
    return [(variable.path, np.asarray(variable)) for variable in variables]


def assert_same_state(first, second, tolerance=1e-6):
    # Not 0, because on a busy machine two equal runs can differ by one rounding (3e-8 was observed).
    # One step or image more or less changes the weights by 1e-3.
    for (path, one), (_, other) in zip(state(first), state(second), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance, err_msg=path)


class Signal(keras.callbacks.Callback):
    """Sends a signal to this process at the end of a step or an epoch."""

    def __init__(self, number, step=None, epoch=None):
        super().__init__()
        self.number, self.step, self.epoch = number, step, epoch
        self.steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        if self.steps == self.step:
            os.kill(os.getpid(), self.number)

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            os.kill(os.getpid(), self.number)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    trained = model()
    fit(trained, tmp_path_factory.mktemp("uninterrupted"))
    return trained


@pytest.fixture(autouse=True)
def signal_handlers_are_restored():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.large
@pytest.mark.parametrize("step", [6, 1, 4, 12])
def test_interrupted_and_resumed_equals_uninterrupted(uninterrupted, tmp_path, step):
    trained = model()
    with pytest.raises(Interrupted, match=f"stopped by SIGINT after step {step}") as stop:
        fit(trained, tmp_path, callbacks=[Signal(signal.SIGINT, step)])
    assert stop.value.step == step
    assert stop.value.signal == signal.SIGINT
    assert checkpoints(tmp_path)[-1][0] == step

    resumed = model(seed=1)  # different weights, which `restore` must replace
    assert restore(resumed, tmp_path) == step
    if step < STEPS * EPOCHS:
        fit(resumed, tmp_path, start=step)
    assert_same_state(resumed, uninterrupted)
    assert checkpoints(tmp_path)[-1][0] == STEPS * EPOCHS


@pytest.mark.large
@pytest.mark.parametrize("steps_per_execution", [2, 3])
def test_several_steps_per_execution(uninterrupted, tmp_path, steps_per_execution):
    trained = model(steps_per_execution=steps_per_execution)
    with pytest.raises(Interrupted) as stop:
        fit(trained, tmp_path, callbacks=[Signal(signal.SIGINT, step=3)])
    assert int(trained.optimizer.iterations) == stop.value.step
    resumed = model(seed=1, steps_per_execution=steps_per_execution)
    fit(resumed, tmp_path, start=restore(resumed, tmp_path))
    # An execution of several steps may be rounded differently from several executions.
    assert_same_state(resumed, uninterrupted, tolerance=1e-5)
    assert int(resumed.optimizer.iterations) == STEPS * EPOCHS
    assert checkpoints(tmp_path)[-1][0] == STEPS * EPOCHS


def test_a_run_interrupted_twice(uninterrupted, tmp_path):
    first = model()
    with pytest.raises(Interrupted):
        fit(first, tmp_path, callbacks=[Signal(signal.SIGINT, 2)])
    second = model(seed=1)
    with pytest.raises(Interrupted) as stop:
        fit(second, tmp_path, start=restore(second, tmp_path), callbacks=[Signal(signal.SIGINT, 1)])
    assert stop.value.step == 3  # in the middle of the interrupted epoch
    third = model(seed=2)
    fit(third, tmp_path, start=restore(third, tmp_path))
    assert_same_state(third, uninterrupted)


def test_sigterm(tmp_path):
    with pytest.raises(Interrupted, match="stopped by SIGTERM after step 2"):
        fit(model(), tmp_path, callbacks=[Signal(signal.SIGTERM, 2)])
    assert checkpoints(tmp_path)[-1][0] == 2


def test_after_a_signal_callbacks_finish_the_end_of_the_epoch(tmp_path):
    trained = model()
    ended = []
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ended.append(epoch))
    with pytest.raises(Interrupted, match="after step 4"):
        fit(trained, tmp_path, callbacks=[Signal(signal.SIGINT, step=4), note])
    with pytest.raises(Interrupted, match="after step 4"):
        fit(model(), tmp_path, callbacks=[Signal(signal.SIGINT, epoch=0), note])
    assert ended == [0, 0]
    assert [step for step, _ in checkpoints(tmp_path)] == [4]


class Stopped(keras.layers.Layer):
    """A layer during whose call a signal arrives."""

    def call(self, inputs):
        raise Interrupted(signal.SIGTERM, 7)


def test_a_signal_while_a_layer_is_traced_is_not_replaced():
    with pytest.raises(Interrupted, match="stopped by SIGTERM after step 7"):
        tf.function(Stopped())(tf.zeros((1, 2)))


def test_a_second_ctrl_c_stops_immediately(tmp_path):
    class Impatient(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(model(), tmp_path, callbacks=[Impatient()])
    assert checkpoints(tmp_path) == []


@pytest.mark.large
def test_early_stopping_works_after_resuming(tmp_path):
    trained = model()
    with pytest.raises(Interrupted):
        fit(trained, tmp_path, callbacks=[Signal(signal.SIGINT, 2)])
    resumed = model(seed=1)
    stopping = keras.callbacks.EarlyStopping(
        "loss", patience=0, min_delta=100.0, start_from_epoch=1
    )
    fit(resumed, tmp_path, start=restore(resumed, tmp_path), callbacks=[stopping], epochs=20)
    assert resumed.stop_training is True
    assert int(resumed.optimizer.iterations) < 5 * STEPS


def test_a_failed_save_leaves_only_the_previous_checkpoint(tmp_path, monkeypatch):
    trained = model()
    checkpoint = fit(trained, tmp_path, epochs=1)

    def save_half(path, values):
        path.write_bytes(b"half a file")
        raise OSError("No space left on device")

    monkeypatch.setattr("keras_ssl.callbacks.model_state.save", save_half)
    checkpoint.step = 5
    message = r"step 5 could not be written.*No space left.*newest intact.*step-00000004"
    with pytest.raises(OSError, match=message):
        checkpoint.save()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000004"]
    assert restore(model(), tmp_path) == 4


def damage(path, how):
    weights = path / "variables.npz"
    if how == "a bit":
        content = bytearray(weights.read_bytes())
        content[len(content) // 2] ^= 1
        weights.write_bytes(content)
    elif how == "the end":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif how == "the weights":
        weights.unlink()
    elif how == "the state":
        (path / "state.json").write_text("{}")
    else:
        (path / "sha256.json").write_text("{")


@pytest.mark.parametrize(
    "how", rest_large(["the state", "a bit", "the end", "the weights", "the sums"])
)
def test_a_damaged_checkpoint_is_skipped_with_a_warning(tmp_path, how, caplog):
    trained = model()
    fit(trained, tmp_path)
    newest = checkpoints(tmp_path)[-1][1]
    damage(newest, how)
    resumed = model(seed=1)
    assert restore(resumed, tmp_path) == 8
    assert str(newest) in caplog.text
    fit(resumed, tmp_path, start=8)
    assert_same_state(resumed, trained)
    assert checkpoint_files.find_damage(newest) is None  # written again
    assert [step for step, _ in checkpoints(tmp_path)] == [8, 12]


def test_checkpoints_in_the_old_format_are_an_error(tmp_path):
    (tmp_path / "step-00000004.weights.h5").touch()
    with pytest.raises(ValueError, match=r"file in the old format, .*step-00000004.weights.h5"):
        restore(model(), tmp_path)


def test_only_damaged_checkpoints_are_an_error(tmp_path):
    fit(model(), tmp_path)
    for _, path in checkpoints(tmp_path):
        damage(path, "a bit")
    with pytest.raises(ValueError, match=r"only damaged ones.*step-00000012.*step-00000008"):
        restore(model(), tmp_path)


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    for name in ("unfinished-7", "removed-7-step-00000001"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "variables.npz").write_bytes(b"half")
    assert restore(model(), tmp_path) == 0
    fit(model(), tmp_path, epochs=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000004"]


def test_changed_settings_are_listed(tmp_path):
    settings = {"method": "SimCLR", "batch_size": 8, "seed": 5}
    fit(model(), tmp_path, epochs=1, settings=settings)
    now = {"method": "BYOL", "batch_size": 16, "seed": 5, "new": 1}
    message = "method: 'SimCLR' in the run, 'BYOL' now; batch_size: 8 in the run, 16 now$"
    with pytest.raises(ValueError, match=message):
        restore(model(), tmp_path, now)
    assert restore(model(), tmp_path, settings) == 4


def test_a_checkpoint_in_the_middle_of_an_epoch(tmp_path):
    trained = model()
    saved = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: saved.append(
            [step for step, _ in checkpoints(tmp_path)]
        )
    )
    fit(trained, tmp_path, epochs=1, mid_epoch_interval=0.0, callbacks=[note])
    assert saved == [[], [1], [1, 2], [2, 3]]


def test_the_mean_loss_of_an_interrupted_epoch_covers_the_full_epoch(uninterrupted, tmp_path):
    with pytest.raises(Interrupted):
        fit(model(), tmp_path / "stopped", callbacks=[Signal(signal.SIGINT, 6)])
    resumed, whole = model(seed=1), model()
    losses = {}
    for trained, path in ((resumed, "stopped"), (whole, "whole")):
        fit(trained, tmp_path / path, start=restore(trained, tmp_path / path))
        losses[path] = trained.history.history["loss"]
    assert losses["stopped"] == losses["whole"][1:]


def test_a_signal_does_not_wait_for_slow_callbacks(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_ssl.callbacks.checkpoint._GRACE", 0.2)

    class Slow(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)

    with pytest.raises(Interrupted, match="SIGTERM after step 4"):
        fit(model(), tmp_path, callbacks=[Slow()])
    assert checkpoints(tmp_path)[-1][0] == 4
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL


def test_a_signal_before_the_first_step_stops_immediately(tmp_path):
    class Early(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            os.kill(os.getpid(), signal.SIGTERM)

    trained = model()
    with pytest.raises(Interrupted, match="SIGTERM after step 0"):
        fit(trained, tmp_path, callbacks=[Early()])
    assert int(trained.optimizer.iterations) == 0
    assert checkpoints(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_monitor_is_traced(tmp_path, monkeypatch, number):
    compute_outputs = collapse_monitor.compute_outputs

    def traced(*arguments, **options):
        assert not tf.executing_eagerly()
        os.kill(os.getpid(), number)
        return compute_outputs(*arguments, **options)

    monkeypatch.setattr(collapse_monitor, "compute_outputs", traced)
    with pytest.raises(Interrupted, match=f"{number.name} after step 1"):
        fit(model(), tmp_path, callbacks=[CollapseMonitor()])
    assert [step for step, _ in checkpoints(tmp_path)] == [1]
    assert restore(model(), tmp_path) == 1


def test_the_state_is_not_saved_while_a_graph_is_traced(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_GRACE", 0.01)

    class Tracing(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            @tf.function(autograph=False)
            def traced(x):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.1)  # the time for other callbacks is over
                return x

            traced(1.0)

    with pytest.raises(Interrupted, match="SIGTERM after step 4"):
        fit(model(), tmp_path, callbacks=[Tracing()])
    assert checkpoints(tmp_path)[-1][0] == 4


@pytest.mark.parametrize("keep", rest_large([2, 1]))
def test_the_newest_checkpoints_are_kept(tmp_path, keep):
    fit(model(), tmp_path, keep=keep)
    assert [step for step, _ in checkpoints(tmp_path)] == [4, 8, 12][-keep:]


def test_short_epochs_end_without_a_checkpoint(tmp_path):
    trained = model()
    fit(trained, tmp_path, interval=1000.0)
    assert [step for step, _ in checkpoints(tmp_path)] == [STEPS * EPOCHS]


def test_restore_without_a_checkpoint_changes_nothing(tmp_path):
    built = model()
    before = state(built)
    assert len(before) > 20
    assert restore(built, tmp_path / "nowhere") == 0
    (tmp_path / "unfinished-7").mkdir()
    (tmp_path / "step-12.tmp").touch()
    assert restore(built, tmp_path) == 0
    for (_, one), (_, other) in zip(state(built), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_restore_into_a_model_that_is_not_compiled(uninterrupted, tmp_path):
    fit(model(), tmp_path)
    keras.utils.set_random_seed(3)
    plain = SimCLR(Tiny((4, 4, 1), features=8), temperature=0.5)
    assert restore(plain, tmp_path) == STEPS * EPOCHS
    for one, other in zip(plain.get_weights(), uninterrupted.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_restore_into_a_different_model_is_an_error(tmp_path):
    fit(model(), tmp_path, epochs=1)
    other = SimCLR(Tiny((4, 4, 1), features=16))
    with pytest.raises(ValueError, match="could not be loaded: it belongs to a different model"):
        restore(other, tmp_path)


@pytest.mark.parametrize("name", ["keep", "steps_per_epoch"])
def test_refuses_numbers_below_one(name):
    arguments = {"steps_per_epoch": 1, "keep": 1, name: 0}
    with pytest.raises(ValueError, match=rf"`{name}` must be at least 1\. Received: {name}=0"):
        Checkpoint("unused", **arguments)
