"""One progress bar over a whole training, with its loss and an estimate of the time left."""

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

_LINES = 20  # of output where there is no terminal to draw a bar on


class _BarAndValues(Progress):
    """A bar with a line of values below it, however long that is."""

    values = ""

    def get_renderables(self):
        """Returns the bar and the values."""
        yield self.make_tasks_table(self.tasks)
        if self.values:
            yield Text(self.values)


class ProgressBar(keras.callbacks.Callback):
    """Shows epochs, steps, loss and the time left; replaces Keras' bar, which starts anew each epoch.

    Without a terminal (a file, a pipe) it prints about twenty lines over the run instead.

    Args:
        steps_per_epoch: batches in a full pass over the data.
        start: steps taken before this training.
        console: where to draw; standard output unless told.

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
        self._bar: Any = None  # a `Progress` from the start of the training

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
            disable=not self.console.is_terminal,
        )
        total = self.params["epochs"] * self.steps_per_epoch
        self._task = self._bar.add_task("Pretraining", total=total, completed=self.start)
        self._bar.start()

    def on_epoch_begin(self, epoch, logs=None):
        """Finds the place in the run."""
        self._epoch_start = max(epoch * self.steps_per_epoch, self.start)
        self._epoch_end = (epoch + 1) * self.steps_per_epoch

    def on_train_batch_end(self, batch, logs=None):
        """Moves the bar."""
        self._bar.update(self._task, completed=min(self._epoch_start + batch + 1, self._epoch_end))

    def on_epoch_end(self, epoch, logs=None):
        """Shows the epoch's values."""
        values = ", ".join(f"{name} {value:.3f}" for name, value in (logs or {}).items())
        epochs = self.params["epochs"]
        self._bar.values = f"epoch {epoch + 1}/{epochs}: {values}"
        every = max(1, epochs // _LINES)
        if not self.console.is_terminal and (epoch % every == every - 1 or epoch == epochs - 1):
            left = self._bar.tasks[0].time_remaining
            estimate = "" if left is None else f", about {left:.0f} s left"
            line = f"epoch {epoch + 1}/{epochs}: {values}{estimate}"
            self.console.print(line, highlight=False, soft_wrap=True)

    def on_train_end(self, logs=None):
        """Leaves the finished bar on the screen."""
        self._bar.stop()

    def stop(self):
        """Releases the screen when training ends with an error."""
        if self._bar is not None:
            self._bar.stop()
