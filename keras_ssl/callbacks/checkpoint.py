"""Checkpoints from which training goes on as if it had never stopped."""

import os
import pathlib
import signal
import threading
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any

import keras
import numpy as np

from keras_ssl import distribute
from keras_ssl.callbacks import checkpoint_files, model_state

_GRACE = 15.0  # seconds that callbacks have to end an epoch, once a signal has come


class Interrupted(Exception):  # noqa: N818 (nothing went wrong)
    """Training stopped between two batches because a signal asked for it; the state is saved.

    Attributes:
        signal: number of the signal, such as `signal.SIGINT`.
        step: number of training steps taken.
    """

    def __init__(self, signal_number: int, step: int):
        super().__init__(f"stopped by {signal.Signals(signal_number).name} after step {step}")
        self.signal = signal_number
        self.step = step


class Checkpoint(keras.callbacks.Callback):
    """Saves all that the next step depends on, at intervals and when Ctrl-C or SIGTERM stops the run.

    A checkpoint is a directory, `step-<steps taken>`: weights (those of targets, queues and banks
    among them), optimizer, loss scale and the state of random layers in one file, the place in the data
    and the metrics of the epoch under way in another, and checksums. It is written beside its place and
    renamed, so that a crash while writing leaves the previous one, and verified when it is read.

    A signal is answered after the batch that is under way: the state is saved and `Interrupted` is
    raised. Callbacks that take long at the end of an epoch are cut short after 15 seconds. A second
    Ctrl-C stops at once. Under a strategy of several workers all of them stop if one has a signal, and
    the first writes; the directory must be one that all see.

    Together with `keras_ssl.data.views(..., start=step)` the resumed run sees the batches that it
    would have seen: an epoch that was under way is finished first, and counts as one.

    When `fit` raises an error, call `stop` to give the signals back.

    Args:
        directory: where checkpoints are kept; made if missing.
        steps_per_epoch: batches in a full pass over the data.
        start: steps taken before this training, 0 unless it resumes.
        keep: number of checkpoints kept, at least 1.
        interval: seconds from one checkpoint to the next, at least: where epochs are short, most end
            without one. The last epoch always has one.
        mid_epoch_interval: seconds after which there is a checkpoint in the middle of an epoch.
        settings: what a run that goes on from here must have in common with this one, such as
            `{"batch_size": 256}`; values of JSON. `restore` compares them.

    Raises:
        ValueError: if `keep` or `steps_per_epoch` is below 1.
        OSError: when a checkpoint cannot be written, such as on a full disk.

    Example:
        ```python
        step = restore(model, "run/checkpoints")  # 0 where there is none
        batches = keras_ssl.data.views(source, policy, batch_size=256, seed=0, start=step)
        checkpoint = Checkpoint("run/checkpoints", steps_per_epoch=100, start=step)
        model.fit(batches, epochs=20, initial_epoch=step // 100, callbacks=[checkpoint])
        ```
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        steps_per_epoch: int,
        start: int = 0,
        keep: int = 2,
        interval: float = 0.0,
        mid_epoch_interval: float = 600.0,
        settings: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        for name, value in (("steps_per_epoch", steps_per_epoch), ("keep", keep)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")
        self.directory = pathlib.Path(directory)
        self.steps_per_epoch = steps_per_epoch
        self.start = start
        self.keep = keep
        self.interval = interval
        self.mid_epoch_interval = mid_epoch_interval
        self.settings = dict(settings or {})
        self.step = start
        self._saved_step = start
        self._saved_at = time.monotonic()
        self._epoch_start = self._epoch_end = start
        self._received: int | None = None
        self._first_iterations = 0
        self._is_busy = False  # in a step or a save, which a signal must not cut short
        self._handlers: dict[int, Any] = {}

    def on_train_begin(self, logs=None):
        """Makes the directory and listens to signals."""
        if distribute.is_chief(self._strategy):
            self.directory.mkdir(parents=True, exist_ok=True)
            checkpoint_files.remove_litter(self.directory)
        self.stop()
        self._received = None
        self._first_iterations = self._iterations()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._listen(number, self._remember)

    def on_epoch_begin(self, epoch, logs=None):
        """Counts from here; the first epoch of a resumed run may begin in its middle."""
        self._epoch_start = max(epoch * self.steps_per_epoch, self.start)
        self._epoch_end = (epoch + 1) * self.steps_per_epoch
        if self._epoch_start == self.start and self.start % self.steps_per_epoch:
            # Keras has just reset the metrics, whose epoch had begun before the interruption.
            self._restore_metrics()

    def on_train_batch_begin(self, batch, logs=None):
        """Lets the step end before a signal is answered."""
        self._is_busy = True

    def on_train_batch_end(self, batch, logs=None):
        """Counts the steps, and stops if a signal came."""
        # With several steps per execution the last one of an epoch may be shorter than Keras says.
        self.step = min(self._epoch_start + batch + 1, self._epoch_end)
        self._is_busy = False
        if self.step < self._epoch_end:
            self._answer(is_due=time.monotonic() - self._saved_at >= self.mid_epoch_interval)

    def on_epoch_end(self, epoch, logs=None):
        """Saves, unless the last checkpoint is fresh, and stops if a signal came."""
        self._answer(is_due=time.monotonic() - self._saved_at >= self.interval)

    def on_train_end(self, logs=None):
        """Saves the end, and gives the signals back."""
        if self._saved_step != self.step:
            self.save()
        self.stop()

    def stop(self):
        """Gives the signals back; does nothing if they are not listened to."""
        if hasattr(signal, "setitimer") and signal.SIGALRM in self._handlers:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def save(self) -> pathlib.Path:
        """Writes a checkpoint of the present state and removes the oldest beyond `keep`.

        Under several workers all must call it; the first writes.

        Raises:
            OSError: if it cannot be written; the checkpoints before it are intact.
        """
        self._is_busy = True
        try:
            state = {
                "step": self.step,
                "steps_per_epoch": self.steps_per_epoch,
                "settings": self.settings,
                "metrics": self._metric_values(),
            }
            values = model_state.collect(self.model)
            path = self.directory / f"step-{self.step:08d}"
            if distribute.is_chief(self._strategy):
                path = checkpoint_files.write(
                    self.directory, self.step, lambda file: model_state.save(file, values), state
                )
                checkpoint_files.remove_all_but(self.directory, self.keep)
        finally:
            self._is_busy = False
        self._saved_step, self._saved_at = self.step, time.monotonic()
        return path

    @property
    def _strategy(self):
        return self.model.distribute_strategy

    def _iterations(self) -> int:
        return int(np.asarray(self.model.optimizer.iterations))

    def _listen(self, number: int, handler: Any):
        self._handlers[number] = signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None):
        if self._received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = number
        if distribute.worker_count(self._strategy) > 1:
            return  # the workers must agree where they stop
        if self._iterations() == self._first_iterations:
            raise Interrupted(number, self.step)  # while the step is being compiled, say
        if hasattr(signal, "setitimer") and signal.SIGALRM not in self._handlers:
            self._listen(signal.SIGALRM, self._cut_short)
            signal.setitimer(signal.ITIMER_REAL, _GRACE, 1.0)

    def _cut_short(self, number: int, frame: FrameType | None):
        """Stops between two batches, whatever other callbacks are doing there."""
        if not self._is_busy and self._received is not None:
            self._stop_run(self._received)

    def _answer(self, is_due: bool):
        received, is_due = self._agreed(is_due)
        if received is not None:
            self._stop_run(received)
        if is_due:
            self.save()

    def _agreed(self, is_due: bool) -> tuple[int | None, bool]:
        """Returns the signal that any worker received, and whether the first says it is time."""
        if distribute.worker_count(self._strategy) == 1:
            return self._received, is_due
        said = distribute.gather(self._strategy, 2 * (self._received or 0) + is_due)
        received = max(int(value) // 2 for value in said)
        return received or None, bool(int(said[0]) % 2)

    def _stop_run(self, received: int):
        if self._saved_step != self.step:
            self.save()
        self.stop()
        raise Interrupted(received, self.step)

    def _metric_values(self) -> list[list]:
        return [
            [np.asarray(variable).tolist() for variable in metric.variables]
            for metric in self.model.metrics
        ]

    def _restore_metrics(self):
        found = dict(checkpoint_files.checkpoints(self.directory)).get(self.start)
        values = [] if found is None else checkpoint_files.state(found)["metrics"]
        for metric, of_metric in zip(self.model.metrics, values, strict=False):
            for variable, value in zip(metric.variables, of_metric, strict=True):
                variable.assign(value)


def restore(
    model: keras.Model, directory: str | os.PathLike, settings: Mapping[str, Any] | None = None
) -> int:
    """Loads the newest intact checkpoint into a model, its optimizer included if it is compiled.

    A damaged one is named in the log of "keras_ssl", and the one before it is used.

    Args:
        model: built model of the form that was saved.
        directory: where checkpoints are kept.
        settings: as for `Checkpoint`; of those that both have, all must be equal.

    Returns:
        The number of steps taken; 0, and an untouched model, where there is no checkpoint.

    Raises:
        ValueError: if the checkpoint is of a run with other settings, which it lists, or of another
            network; or if all checkpoints are damaged.
    """
    found = checkpoint_files.newest(directory)
    if found is None:
        return 0
    _check_settings(found.state.get("settings", {}), dict(settings or {}), directory)
    model_state.load(model, found.variables)
    return found.step


def _check_settings(saved: dict, now: dict, directory: str | os.PathLike):
    differences = [
        f"{name}: {saved[name]!r} in the run, {value!r} now"
        for name, value in now.items()
        if name in saved and saved[name] != value
    ]
    if differences:
        raise ValueError(
            "A run goes on as it began. Expected: the settings of the checkpoints in "
            f"{str(directory)!r}. Received: {'; '.join(differences)}"
        )
