"""Checkpoints from which training goes on as if it had never stopped."""

import os
import pathlib
import re
import signal
import threading
import time
from types import FrameType
from typing import Any

import keras

_NAME = re.compile(r"step-(\d+)\.weights\.h5")
_END_OF_PASS = "end of pass"  # true, and told apart from what others set


class Interrupted(Exception):  # noqa: N818 (nothing went wrong)
    """Training stopped at a batch's end because a signal asked for it; the state is saved.

    Attributes:
        signal: number of the signal, such as `signal.SIGINT`.
        step: number of training steps taken.
    """

    def __init__(self, signal_number: int, step: int):
        super().__init__(f"stopped by {signal.Signals(signal_number).name} after step {step}")
        self.signal = signal_number
        self.step = step


class Checkpoint(keras.callbacks.Callback):
    """Saves weights and optimizer after epochs, and when Ctrl-C or SIGTERM stops the run.

    A checkpoint is one file, `step-<steps taken>.weights.h5`; it is written beside and renamed, so
    that a crash while writing leaves the previous one. A signal is answered after the batch that is
    under way: the state is saved and `Interrupted` is raised. A second Ctrl-C stops at once.

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

    Raises:
        ValueError: if `keep` or `steps_per_epoch` is below 1.

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
        self.step = start
        self._saved_step = start
        self._saved_at = time.monotonic()
        self._epoch_start = self._epoch_end = start
        self._received: int | None = None
        self._handlers: dict[int, Any] = {}

    def on_train_begin(self, logs=None):
        """Makes the directory and listens to signals."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.stop()
        self._received = None
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._remember)

    def on_epoch_begin(self, epoch, logs=None):
        """Counts from here; the first epoch of a resumed run may begin in its middle."""
        self._epoch_start = max(epoch * self.steps_per_epoch, self.start)
        self._epoch_end = (epoch + 1) * self.steps_per_epoch

    def on_train_batch_end(self, batch, logs=None):
        """Counts the steps, and stops if a signal came."""
        # With several steps per execution the last one of an epoch may be shorter than Keras says.
        self.step = min(self._epoch_start + batch + 1, self._epoch_end)
        if self.step < self._epoch_end:
            self._answer_signal()
        elif self.start % self.steps_per_epoch:
            # The first pass was shorter than the others. Keras would take its length for theirs.
            self.model.stop_training = self.model.stop_training or _END_OF_PASS

    def on_epoch_end(self, epoch, logs=None):
        """Saves, unless the last checkpoint is fresh, and stops if a signal came."""
        if self.model.stop_training == _END_OF_PASS:
            self.model.stop_training = False
        if time.monotonic() - self._saved_at >= self.interval:
            self.save()
        self._answer_signal()

    def on_train_end(self, logs=None):
        """Saves the end, and gives the signals back."""
        if self._saved_step != self.step:
            self.save()
        self.stop()

    def stop(self):
        """Gives the signals back; does nothing if they are not listened to."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def save(self) -> pathlib.Path:
        """Writes a checkpoint of the present state and removes the oldest beyond `keep`."""
        path = self.directory / f"step-{self.step:08d}.weights.h5"
        unfinished = self.directory / f"unfinished-{os.getpid()}.weights.h5"
        try:
            self.model.save_weights(unfinished, overwrite=True)
            with unfinished.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
        for _, old in checkpoints(self.directory)[: -self.keep]:
            old.unlink()
        self._saved_step, self._saved_at = self.step, time.monotonic()
        return path

    def _remember(self, number: int, frame: FrameType | None):
        if self._received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = number

    def _answer_signal(self):
        if self._received is None:
            return
        if self._saved_step != self.step:
            self.save()
        self.stop()
        raise Interrupted(self._received, self.step)


def checkpoints(directory: str | os.PathLike) -> list[tuple[int, pathlib.Path]]:
    """Returns (steps taken, file) of each checkpoint in a directory, the oldest first."""
    found = []
    for path in pathlib.Path(directory).glob("step-*"):
        if match := _NAME.fullmatch(path.name):
            found.append((int(match[1]), path))
    return sorted(found)


def restore(model: keras.Model, directory: str | os.PathLike) -> int:
    """Loads the newest checkpoint into a model, its optimizer included if it is compiled.

    Args:
        model: built model of the form that was saved.
        directory: where checkpoints are kept.

    Returns:
        The number of steps taken; 0, and an untouched model, where there is no checkpoint.
    """
    found = checkpoints(directory)
    if not found:
        return 0
    step, path = found[-1]
    if model.compiled:
        model.optimizer.build(model.trainable_variables)
    model.load_weights(path)
    return step
