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


def test_a_long_epoch_prints_lines_where_no_bar_can_be_drawn(monkeypatch):
    monkeypatch.setattr("keras_ssl.callbacks.progress._SECONDS", 0.0)
    console = Console(file=io.StringIO())
    bar = ProgressBar(steps_per_epoch=3, console=console)
    bar.set_params({"epochs": 2})
    bar.on_train_begin()
    bar.on_epoch_begin(1)
    bar.on_train_batch_end(0, {"loss": 0.25})
    bar.stop()
    assert console.file.getvalue() == "step 4/6: loss 0.250\n"


@pytest.mark.parametrize("installed", [False, True])
def test_a_notebook_gets_a_bar_only_with_ipywidgets(installed, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: "spec" if installed else None)
    notebook = Console(file=io.StringIO(), force_jupyter=True)
    assert can_draw(notebook) == installed
    assert can_draw(Console(file=io.StringIO()))
