"""The progress bar, with and without a terminal."""

import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from keras_ssl.callbacks import ProgressBar
from keras_ssl.data.progress import can_draw


def fit(*callbacks, epochs=3, batches=4, **arguments):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    data = tf.data.Dataset.from_tensor_slices((np.ones((8, 2)), np.ones((8, 1)))).batch(
        8 // batches
    )
    model.fit(data, epochs=epochs, verbose=0, shuffle=False, callbacks=list(callbacks), **arguments)


def console(terminal):
    return Console(file=io.StringIO(), force_terminal=terminal, width=120, _environ={})


def test_on_a_terminal_it_shows_steps_loss_and_time_left():
    screen = console(terminal=True)
    fit(ProgressBar(4, console=screen))
    shown = screen.file.getvalue()
    assert "12/12" in shown
    assert "epoch 3/3: loss " in shown
    assert "left:" in shown


def test_a_file_gets_lines():
    screen = console(terminal=False)
    fit(ProgressBar(4, console=screen))
    lines = screen.file.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("epoch 1/3: loss ")
    assert lines[2].startswith("epoch 3/3: loss ")
    assert lines[1].endswith(" s left")


def test_a_long_run_gets_about_twenty_lines():
    screen = console(terminal=False)
    fit(ProgressBar(1, console=screen), epochs=45, batches=1)
    lines = screen.file.getvalue().splitlines()
    assert 20 <= len(lines) <= 24
    assert lines[-1].startswith("epoch 45/45")


def test_many_values_leave_the_bar_its_place():
    screen = Console(force_terminal=True, width=80, file=io.StringIO())
    bar = ProgressBar(4, console=screen)
    bar.set_params({"epochs": 1})
    bar.on_train_begin()
    bar.on_epoch_begin(0)
    bar.on_train_batch_end(3)
    bar.on_epoch_end(0, {f"a_value_with_a_long_name_{n}": 1.0 for n in range(8)})
    bar.on_train_end()
    last = screen.file.getvalue().split("Pretraining")[-1]
    assert "4/4" in last
    assert all(f"name_{n} 1.000" in last for n in range(8))


def test_a_resumed_run_counts_from_where_it_was():
    screen = console(terminal=True)
    bar = ProgressBar(4, start=6, console=screen)
    completed = []

    class Look(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            completed.append(bar._bar.tasks[0].completed)

        def on_train_batch_end(self, batch, logs=None):
            completed.append(bar._bar.tasks[0].completed)

    fit(bar, Look(), epochs=2, batches=2, initial_epoch=1)
    assert completed == [6, 7, 8]
    assert "8/8" in screen.file.getvalue()


def test_the_last_execution_of_an_epoch_does_not_overshoot():
    bar = ProgressBar(5, console=console(terminal=True))
    bar.set_params({"epochs": 1})
    bar.on_train_begin()
    bar.on_epoch_begin(0)
    for batch in (2, 5):  # three steps each, says Keras
        bar.on_train_batch_end(batch)
    assert bar._bar.tasks[0].completed == 5
    bar.stop()


def test_stop_releases_the_screen():
    bar = ProgressBar(4, console=console(terminal=True))
    bar.stop()  # nothing to release yet

    class Fail(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        fit(bar, Fail())
    assert bar._bar.live.is_started
    bar.stop()
    assert not bar._bar.live.is_started


@pytest.fixture
def clock(monkeypatch):
    """A clock that only moves when a test says so."""

    class Clock:
        now = 0.0

        def __call__(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr("keras_ssl.callbacks.progress._clock", clock)
    return clock


def run(bar, clock, seconds, epochs, between=0.0, executions=None):
    """Calls a bar as `fit` does. Each execution takes the next of `seconds`; the last one repeats."""
    bar.set_params({"epochs": epochs})
    bar.on_train_begin()
    times = iter(seconds)
    lines = []
    for epoch in range(epochs):
        bar.on_epoch_begin(epoch)
        for batch in executions or range(bar.steps_per_epoch):
            bar.on_train_batch_begin(batch)
            clock.now += (last := next(times, seconds[-1]))
            assert last > 0
            bar.on_train_batch_end(batch, {"loss": 0.25})
            lines.append((clock.now, bar.console.file.getvalue().count("\n")))
        bar.on_epoch_end(epoch, {"loss": 0.25})
        clock.now += between
    bar.on_train_end()
    return lines


def test_the_speed_is_printed_within_a_minute_without_the_time_to_compile(clock):
    screen = console(terminal=False)
    bar = ProgressBar(1000, console=screen, batch_size=256)
    printed = run(bar, clock, [40.0, 2.0], epochs=2)
    first, second, *_ = screen.file.getvalue().splitlines()
    # 40 s to compile, then 2 s for each of the 1,995 steps that are left
    assert first == (
        "step 6/2000: first step 40 s with compiling, then 2 s per step, "
        "128 images/s, about 66 min left"
    )
    assert second.startswith("step 37/2000, epoch 1/2: loss 0.250, 128 images/s, about 65 min left")
    assert next(now for now, lines in printed if lines) <= 60


def test_lines_come_at_most_every_ten_minutes(clock):
    screen = console(terminal=False)
    run(ProgressBar(3000, console=screen, batch_size=64), clock, [60.0, 30.0], epochs=1)
    lines = screen.file.getvalue().splitlines()
    assert 3000 * 30 / 600 * 0.9 < len(lines) < 3000 * 30 / 600 * 1.1  # 25 hours


def test_slow_steps_print_the_time_of_the_first_one(clock):
    screen = console(terminal=False)
    run(ProgressBar(3, console=screen, batch_size=64), clock, [70.0, 50.0], epochs=1)
    lines = screen.file.getvalue().splitlines()
    assert lines[0] == "step 1/3, epoch 1/1: loss 0.250, first step 70 s with compiling"
    assert "then 50 s per step, 1.28 images/s, about 50 s left" in lines[1]


def test_a_first_step_of_more_than_a_minute_is_reported(monkeypatch):
    monkeypatch.setattr("keras_ssl.callbacks.progress._SECONDS", 0.02)
    screen = console(terminal=False)
    bar = ProgressBar(3, console=screen)
    bar.set_params({"epochs": 1})
    bar.on_train_begin()
    bar._reminder.join()
    bar.stop()
    assert "The first step has not finished after 0 s" in screen.file.getvalue()


def test_advice_is_given_once_with_the_time_of_the_whole_training(clock):
    screen, times = console(terminal=True), []

    def advise(seconds):
        times.append(seconds)
        return "Try a smaller network."

    run(ProgressBar(10, console=screen, advise=advise), clock, [40.0, 6.0], epochs=4)
    assert times == [40 * 6.0]
    assert "Try a smaller network." in screen.file.getvalue()


@pytest.mark.parametrize("installed", [False, True])
def test_a_notebook_gets_a_bar_only_with_ipywidgets(installed, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: "spec" if installed else None)
    notebook = Console(file=io.StringIO(), force_jupyter=True)
    assert can_draw(notebook) == installed
    assert can_draw(Console(file=io.StringIO()))
