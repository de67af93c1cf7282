"""Checkpoints from which training goes on as if it had never stopped."""

import os
import pathlib
import re
import signal
import threading
from types import FrameType

import keras

_NAME = re.compile(r"step-(\d+)\.weights\.h5")


class Interrupted(Exception):
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
    """Saves weights and optimizer after every epoch, and when Ctrl-C or SIGTERM stops the run.

    A checkpoint is one file, `step-<steps taken>.weights.h5`; it is written beside and renamed, so
    that a crash while writing leaves the previous one. A signal is answered after the batch that is
    under way: the state is saved and `Interrupted` is raised. A second Ctrl-C stops at once.

    Together with `keras_ssl.data.views(..., start=step)` the resumed run sees the batches that it
    would have seen.

    Args:
        directory: where checkpoints are kept; made if missing.
        steps_per_epoch: batches in a full pass over the data.
        start: steps taken before this training, 0 unless it resumes.
        keep: number of checkpoints kept, at least 1.

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
        self, directory: str | os.PathLike, steps_per_epoch: int, start: int = 0, keep: int = 2
    ):
        super().__init__()
        for name, value in (("steps_per_epoch", steps_per_epoch), ("keep", keep)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")
        self.directory = pathlib.Path(directory)
        self.steps_per_epoch = steps_per_epoch
        self.start = start
        self.keep = keep
        self.step = start
        self._epoch_start = start
        self._received: int | None = None
        self._handlers: dict[int, object] = {}

    def on_train_begin(self, logs=None):
        """Makes the directory and listens to signals."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._remember)

    def on_epoch_begin(self, epoch, logs=None):
        """Counts from here; the first epoch of a resumed run may begin in its middle."""
        self._epoch_start = max(epoch * self.steps_per_epoch, self.start)

    def on_train_batch_end(self, batch, logs=None):
        """Counts the steps, and stops if a signal came."""
        self.step = self._epoch_start + batch + 1
        if self._received is not None:
            self.save()
            self._stop_listening()
            raise Interrupted(self._received, self.step)

    def on_epoch_end(self, epoch, logs=None):
        """Saves."""
        self.save()

    def on_train_end(self, logs=None):
        """Gives the signals back."""
        self._stop_listening()

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
        return path

    def _remember(self, number: int, frame: FrameType | None):
        if self._received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = number

    def _stop_listening(self):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}


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
