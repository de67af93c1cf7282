"""One progress bar for an entire training, with the loss, the speed and the estimated time left."""

import threading
import time
from collections.abc import Callable
from typing import Any

import keras
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from keras_ssl.callbacks.pace import Pace, format_duration, format_number
from keras_ssl.data.progress import can_draw

_LINES = 20  # epochs that are printed over a run if no bar can be drawn
_SECONDS = 60.0  # between two lines: at least, and at first
_MOST_SECONDS = 600.0  # between two lines of a run of a day or more
_ENOUGH_SECONDS = 10.0  # of measured steps before the speed is printed
_clock = time.monotonic


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
    prints lines: the time of the first step and the speed as soon as they are known, within a minute;
    about twenty epochs over the run; and one line per minute within long epochs, in long runs one per
    hundredth of the run, up to ten minutes apart. If the first step takes more than a minute, a line
    says so. The estimated time left does not include compiling.

    Args:
        steps_per_epoch: batches in a full pass over the data; `None` takes the number that `fit`
            knows.
        start: steps taken before this call of `fit`.
        console: where to draw; by default standard output.
        batch_size: images per step, to show images per second; `None` shows steps per second.
        advise: called once, when the speed is known, with the estimated seconds of the whole run;
            returns a text to print, or `None`.

    Example:
        ```python
        model.fit(batches, epochs=100, verbose=0, callbacks=[ProgressBar(len(batches))])
        ```
    """

    def __init__(
        self,
        steps_per_epoch: int | None = None,
        start: int = 0,
        console: Console | None = None,
        batch_size: int | None = None,
        advise: Callable[[float], str | None] | None = None,
    ):
        super().__init__()
        self._given_steps = steps_per_epoch
        self.steps_per_epoch = steps_per_epoch or 1
        self.start = start
        self.console = console or Console()
        self.batch_size = batch_size
        self.advise = advise
        self._animated = self.console.is_terminal or (
            self.console.is_jupyter and can_draw(self.console)
        )
        self._printed_at = 0.0
        self._pace = Pace(self.steps_per_epoch, total=start, start=start)
        self._epoch_values = ""
        self._speed_shown = False
        self._reminder: threading.Timer | None = None
        self._bar: Any = None  # a `Progress` from the start of training

    def on_train_begin(self, logs=None):
        """Draws the bar."""
        self._bar = _BarAndValues(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeElapsedColumn(),
            TextColumn("left: {task.fields[left]}"),
            console=self.console,
            disable=not self._animated,
        )
        self._printed_at = _clock()
        self.steps_per_epoch = self._given_steps or self.params["steps"]
        total = self.params["epochs"] * self.steps_per_epoch
        self._task = self._bar.add_task("Training", total=total, completed=self.start, left="?")
        self._pace = Pace(self.steps_per_epoch, total, self.start, _clock)
        self._speed_shown = False
        if not self._animated:
            self._reminder = threading.Timer(_SECONDS, self._remind)
            self._reminder.daemon = True
            self._reminder.start()
        self._bar.start()

    def on_epoch_begin(self, epoch, logs=None):
        """Computes the range of steps of the epoch."""
        self._epoch_start = max(epoch * self.steps_per_epoch, self.start)
        self._epoch_end = (epoch + 1) * self.steps_per_epoch

    def on_train_batch_begin(self, batch, logs=None):
        """Notes the time."""
        self._pace.begin()

    def on_train_batch_end(self, batch, logs=None):
        """Moves the bar."""
        pace = self._pace
        step = min(self._epoch_start + batch + 1, self._epoch_end)
        pace.end(step)
        self._stop_reminder()
        self._bar.update(self._task, completed=step)
        self._show_speed()
        if not self._animated and _clock() - self._printed_at > self._interval():
            values = ", ".join(f"{name} {float(value):.3f}" for name, value in (logs or {}).items())
            epoch = f"epoch {self._epoch_end // self.steps_per_epoch}/{self.params['epochs']}"
            self._print(f"step {step}/{pace.total}, {epoch}: {values}{self._speed_and_time_left()}")

    def _show_speed(self):
        """Shows the speed: in the bar after each execution, or once as a line."""
        pace = self._pace
        if pace.seconds_per_step is None:
            return
        self._bar.update(self._task, left=format_duration(pace.left or 0.0))
        self._bar.values = f"{self._epoch_values}{self._speed_and_time_left()}".removeprefix(", ")
        waited = _clock() - self._printed_at > _SECONDS
        if self._speed_shown or not (pace.measured >= _ENOUGH_SECONDS or waited):
            return
        self._speed_shown = True
        if not self._animated:
            steps = f"then {format_number(pace.seconds_per_step)} s per step"
            line = f"step {pace.step}/{pace.total}: {self._first_step()}, {steps}"
            self._print(f"{line}{self._speed_and_time_left()}")
        if self.advise is not None and (advice := self.advise(pace.whole or 0.0)):
            self._print(advice)

    def _speed_and_time_left(self) -> str:
        pace = self._pace
        if pace.seconds_per_step is None or pace.left is None:
            slow = pace.first is not None and pace.first >= _ENOUGH_SECONDS
            return f", {self._first_step()}" if slow else ""
        unit = "clips" if getattr(self.model, "takes_clips", False) else "images"
        unit = "steps" if self.batch_size is None else unit
        speed = (self.batch_size or 1) / max(pace.seconds_per_step, 1e-9)
        return f", {format_number(speed)} {unit}/s, about {format_duration(pace.left)} left"

    def _first_step(self) -> str:
        return f"first step {format_duration(self._pace.first or 0.0)} with compiling"

    def _interval(self) -> float:
        """Returns the seconds between two lines."""
        whole = self._pace.whole or 0.0
        return min(max(_SECONDS, whole / 100), max(_SECONDS, _MOST_SECONDS))

    def _remind(self):
        """Runs in a thread of its own, since no callback is called within a step."""
        waited = format_duration(_SECONDS)
        line = f"The first step has not finished after {waited}. It includes compiling."
        self.console.print(line, highlight=False, soft_wrap=True)

    def _stop_reminder(self):
        if self._reminder is not None:
            self._reminder.cancel()
            self._reminder = None

    def on_epoch_end(self, epoch, logs=None):
        """Shows the epoch's values."""
        values = ", ".join(f"{name} {value:.3f}" for name, value in (logs or {}).items())
        epochs = self.params["epochs"]
        speed_and_time = self._speed_and_time_left()
        self._epoch_values = f"epoch {epoch + 1}/{epochs}: {values}"
        self._bar.values = f"{self._epoch_values}{speed_and_time}"
        every = max(1, epochs // _LINES)
        if not self._animated and (epoch % every == every - 1 or epoch == epochs - 1):
            self._print(f"epoch {epoch + 1}/{epochs}: {values}{speed_and_time}")

    def _print(self, line: str):
        self.console.print(line, highlight=False, soft_wrap=True)
        self._printed_at = _clock()

    def on_train_end(self, logs=None):
        """Leaves the finished bar on the screen."""
        self.stop()

    def stop(self):
        """Releases the terminal, also after an error in training."""
        self._stop_reminder()
        if self._bar is not None:
            self._bar.stop()
