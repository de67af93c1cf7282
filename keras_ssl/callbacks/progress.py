"""One progress bar for an entire training, with the loss and the estimated time left."""

import time
from typing import Any

import keras
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from keras_ssl.data.progress import can_draw

_LINES = 20  # printed over a run if no bar can be drawn
_SECONDS = 60.0  # between two lines within an epoch


class _BarAndValues(Progress):
    """A bar with a line of values below it."""

    values = ""

    def get_renderables(self):
        """Returns the bar and the values."""
        yield self.make_tasks_table(self.tasks)
        if self.values:
            yield Text(self.values)


class ProgressBar(keras.callbacks.Callback):
    """Shows epochs, steps, loss and the time left, in one bar; the bar of Keras restarts each epoch.

    In a notebook the bar needs ipywidgets. Without a terminal (a file, a pipe) or ipywidgets, it
    prints about twenty lines over the run, and one per minute within long epochs.

    Args:
        steps_per_epoch: batches in a full pass over the data.
        start: steps taken before this call of `fit`.
        console: where to draw; by default standard output.

    Example:
        ```python
        model.fit(batches, epochs=100, verbose=0, callbacks=[ProgressBar(len(batches))])
        ```
    """

    def __init__(self, steps_per_epoch: int, start: int = 0, console: Console | None = None):
        super().__init__()
        self.steps_per_epoch = steps_per_epoch
        self.start = start
        self.console = console or Console()
        self._animated = self.console.is_terminal or (
            self.console.is_jupyter and can_draw(self.console)
        )
        self._printed_at = 0.0
        self._bar: Any = None  # a `Progress` from the start of training

    def on_train_begin(self, logs=None):
        """Draws the bar."""
        self._bar = _BarAndValues(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self._animated,
        )
        self._printed_at = time.monotonic()
        total = self.params["epochs"] * self.steps_per_epoch
        self._task = self._bar.add_task("Pretraining", total=total, completed=self.start)
        self._bar.start()

    def on_epoch_begin(self, epoch, logs=None):
        """Computes the range of steps of the epoch."""
        self._epoch_start = max(epoch * self.steps_per_epoch, self.start)
        self._epoch_end = (epoch + 1) * self.steps_per_epoch

    def on_train_batch_end(self, batch, logs=None):
        """Moves the bar."""
        step = min(self._epoch_start + batch + 1, self._epoch_end)
        self._bar.update(self._task, completed=step)
        if not self._animated and time.monotonic() - self._printed_at > _SECONDS:
            values = ", ".join(f"{name} {float(value):.3f}" for name, value in (logs or {}).items())
            total = self._bar.tasks[0].total
            self._print(f"step {step}/{total:.0f}: {values}")

    def on_epoch_end(self, epoch, logs=None):
        """Shows the epoch's values."""
        values = ", ".join(f"{name} {value:.3f}" for name, value in (logs or {}).items())
        epochs = self.params["epochs"]
        self._bar.values = f"epoch {epoch + 1}/{epochs}: {values}"
        every = max(1, epochs // _LINES)
        if not self._animated and (epoch % every == every - 1 or epoch == epochs - 1):
            left = self._bar.tasks[0].time_remaining
            estimate = "" if left is None else f", about {left:.0f} s left"
            self._print(f"epoch {epoch + 1}/{epochs}: {values}{estimate}")

    def _print(self, line: str):
        self.console.print(line, highlight=False, soft_wrap=True)
        self._printed_at = time.monotonic()

    def on_train_end(self, logs=None):
        """Leaves the finished bar on the screen."""
        self._bar.stop()

    def stop(self):
        """Releases the terminal after an error in training."""
        if self._bar is not None:
            self._bar.stop()
