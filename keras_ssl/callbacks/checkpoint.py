"""Checkpoints that resume training exactly where it stopped."""

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
import tensorflow as tf

from keras_ssl import distribute
from keras_ssl.callbacks import checkpoint_files, model_state

_GRACE = 15.0  # seconds after a signal that other callbacks have to finish the end of an epoch


class Interrupted(BaseException):
    """Raised when a signal has stopped training, after the state was saved.

    Like `KeyboardInterrupt`, it is not an `Exception`: Keras and TensorFlow replace exceptions that are
    raised while a layer is called or traced, and a signal can arrive then.

    Attributes:
        signal: number of the signal, such as `signal.SIGINT`.
        step: number of training steps taken.
    """

    def __init__(self, signal_number: int, step: int):
        super().__init__(f"stopped by {signal.Signals(signal_number).name} after step {step}")
        self.signal = signal_number
        self.step = step


class Checkpoint(keras.callbacks.Callback):
    """Saves the complete training state at intervals, and when Ctrl-C or SIGTERM stops the run.

    A checkpoint is a directory `step-<steps taken>`. One file holds all weights (including target
    networks, queues and memory banks), the optimizer, the loss scale and the state of random
    layers. Another holds the step and the metrics of the current epoch. A third holds checksums,
    which are verified when the checkpoint is read. A checkpoint is written under another name and
    then renamed, so a crash while writing leaves the previous one intact.

    After a signal, the current batch is finished, the state is saved, and `Interrupted` is raised.
    Other callbacks at the end of an epoch are stopped after 15 seconds. A second Ctrl-C stops
    immediately. Under a strategy with several workers, all workers stop when one receives a signal,
    and the chief writes. The directory must be visible to all of them.

    With `keras_ssl.data.views(..., start=step)`, the resumed run trains on the same batches as an
    uninterrupted one. An interrupted epoch is finished first and counts as one epoch.

    If `fit` raises an error, call `stop` to restore the signal handlers.

    Args:
        directory: directory of the checkpoints; created if missing.
        steps_per_epoch: batches in a full pass over the data.
        start: steps taken before this call of `fit`; 0 unless the run is resumed.
        keep: number of checkpoints to keep, at least 1.
        interval: minimum seconds between checkpoints at the end of epochs. The last epoch always
            ends with a checkpoint.
        mid_epoch_interval: minimum seconds from a checkpoint to one in the middle of an epoch.
        settings: settings that must not change when the run is resumed, such as
            `{"batch_size": 256}`, with JSON values. `restore` compares them.

    Raises:
        ValueError: if `keep` or `steps_per_epoch` is below 1.
        OSError: if a checkpoint cannot be written, for example because the disk is full.

    Example:
        ```python
        step = restore(model, "run/checkpoints")  # 0 if there is no checkpoint
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
        self._is_busy = False  # in a step or a save, which a signal must not interrupt
        self._handlers: dict[int, Any] = {}

    def on_train_begin(self, logs=None):
        """Creates the directory and installs the signal handlers."""
        if distribute.is_chief(self._strategy):
            self.directory.mkdir(parents=True, exist_ok=True)
            checkpoint_files.remove_unfinished(self.directory)
        self.stop()
        self._received = None
        self._first_iterations = self._iterations()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._install_handler(number, self._on_signal)

    def on_epoch_begin(self, epoch, logs=None):
        """Finds the steps of this epoch; the first one of a resumed run may start in its middle."""
        self._epoch_start = max(epoch * self.steps_per_epoch, self.start)
        self._epoch_end = (epoch + 1) * self.steps_per_epoch
        if self._epoch_start == self.start and self.start % self.steps_per_epoch:
            # Keras has just reset the metrics, but this epoch started before the interruption.
            self._restore_metrics()

    def on_train_batch_begin(self, batch, logs=None):
        """Delays signals until the step has finished."""
        self._is_busy = True

    def on_train_batch_end(self, batch, logs=None):
        """Counts the steps, and stops after a signal."""
        # With several steps per execution, the last execution of an epoch may take fewer steps than
        # Keras reports.
        self.step = min(self._epoch_start + batch + 1, self._epoch_end)
        self._is_busy = False
        if self.step < self._epoch_end:
            self._save_or_stop(is_due=time.monotonic() - self._saved_at >= self.mid_epoch_interval)

    def on_epoch_end(self, epoch, logs=None):
        """Saves if `interval` seconds have passed, and stops after a signal."""
        self._save_or_stop(is_due=time.monotonic() - self._saved_at >= self.interval)

    def on_train_end(self, logs=None):
        """Saves the final state and restores the signal handlers."""
        if self._saved_step != self.step:
            self.save()
        self.stop()

    def stop(self):
        """Restores the previous signal handlers, if this callback has replaced them."""
        if hasattr(signal, "setitimer") and signal.SIGALRM in self._handlers:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def save(self) -> pathlib.Path:
        """Writes a checkpoint of the current state and deletes all but the newest `keep`.

        Under several workers, all must call it; the chief writes.

        Returns:
            The directory of the checkpoint.

        Raises:
            OSError: if it cannot be written. Earlier checkpoints stay intact.
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
        # A signal may arrive while another callback traces a graph, in which variables have no value.
        with tf.init_scope():
            return int(np.asarray(self.model.optimizer.iterations))

    def _install_handler(self, number: int, handler: Any):
        self._handlers[number] = signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None):
        """Notes the signal; the run stops at the end of the step."""
        if self._received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = number
        if distribute.worker_count(self._strategy) > 1:
            return  # the workers must agree on the step to stop at
        if self._iterations() == self._first_iterations:
            raise Interrupted(number, self.step)  # for example while the step is being compiled
        if hasattr(signal, "setitimer") and signal.SIGALRM not in self._handlers:
            self._install_handler(signal.SIGALRM, self._on_alarm)
            signal.setitimer(signal.ITIMER_REAL, _GRACE, 1.0)

    def _on_alarm(self, number: int, frame: FrameType | None):
        """Stops between two batches, even if another callback is still running."""
        # The timer calls again. While a graph is traced, nothing can be saved.
        is_tracing = not tf.executing_eagerly()
        if not self._is_busy and not is_tracing and self._received is not None:
            self._stop_run(self._received)

    def _save_or_stop(self, is_due: bool):
        received, is_due = self._agree(is_due)
        if received is not None:
            self._stop_run(received)
        if is_due:
            self.save()

    def _agree(self, is_due: bool) -> tuple[int | None, bool]:
        """Returns the signal that any worker received, and whether the chief wants to save."""
        if distribute.worker_count(self._strategy) == 1:
            return self._received, is_due
        # Signal and flag in one number, so that one collective operation is enough.
        values = distribute.gather(self._strategy, 2 * (self._received or 0) + is_due)
        received = max(int(value) // 2 for value in values)
        return received or None, bool(int(values[0]) % 2)

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
        saved = [] if found is None else checkpoint_files.read_state(found)["metrics"]
        for metric, values in zip(self.model.metrics, saved, strict=False):
            for variable, value in zip(metric.variables, values, strict=True):
                variable.assign(value)


def restore(
    model: keras.Model, directory: str | os.PathLike, settings: Mapping[str, Any] | None = None
) -> int:
    """Loads the newest intact checkpoint into a model and, if it is compiled, its optimizer.

    Damaged checkpoints are skipped with a warning in the "keras_ssl" log.

    Args:
        model: built model with the architecture that was saved.
        directory: directory of the checkpoints.
        settings: the current settings; see `Checkpoint`. Those that are also in the checkpoint must
            be equal.

    Returns:
        The number of steps taken. Without a checkpoint, returns 0 and leaves the model unchanged.

    Raises:
        ValueError: if the checkpoint has other settings, which the message lists, or belongs to a
            different model, or if all checkpoints are damaged.
    """
    found = checkpoint_files.find_newest(directory)
    if found is None:
        return 0
    _check_settings(found.state.get("settings", {}), dict(settings or {}), directory)
    model_state.load(model, found.variables)
    return found.step


def _check_settings(saved: dict, current: dict, directory: str | os.PathLike):
    differences = [
        f"{name}: {saved[name]!r} in the run, {value!r} now"
        for name, value in current.items()
        if name in saved and saved[name] != value
    ]
    if differences:
        raise ValueError(
            "A run must be resumed with the same settings. Expected: the settings of the "
            f"checkpoints in {str(directory)!r}. Received: {'; '.join(differences)}"
        )
