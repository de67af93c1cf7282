"""Measures how fast training is, and estimates the time left."""

import collections
import statistics
import time
from collections.abc import Callable

_WINDOW = 200  # executions: the speed may change, for example when another program ends


class Pace:
    """The speed of training, without the time to compile.

    TensorFlow compiles the training function when it is first called with a number of steps. These
    executions are not counted. What happens between epochs, such as evaluation and checkpoints, is
    counted separately, because it is not proportional to the steps.

    Args:
        steps_per_epoch: batches in a full pass over the data.
        total: steps of the whole training.
        start: steps taken before.
        clock: returns the time in seconds.

    Attributes:
        first: seconds of the first execution, which includes compiling; `None` before its end.
        measured: seconds of the executions that were counted.

    Example:
        >>> times = iter([0, 9, 9, 10, 10, 11])  # the first of three steps compiles
        >>> pace = Pace(steps_per_epoch=13, total=13, clock=lambda: next(times))
        >>> for step in (1, 2, 3):
        ...     pace.begin()
        ...     pace.end(step)
        >>> pace.first, pace.seconds_per_step, pace.left
        (9, 1.0, 10.0)
    """

    def __init__(
        self,
        steps_per_epoch: int,
        total: int,
        start: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.steps_per_epoch = steps_per_epoch
        self.total = total
        self.step = start
        self.first: float | None = None
        self.measured = 0.0
        self._clock = clock
        self._compiled: set[int] = set()  # numbers of steps per execution
        self._recent: collections.deque[tuple[int, float]] = collections.deque(maxlen=_WINDOW)
        self._between: list[float] = []  # seconds between epochs
        self._began = 0.0
        self._ended: float | None = None

    def begin(self):
        """Notes the time before an execution of one or more steps."""
        self._began = self._clock()
        if self._ended is not None and self.step % self.steps_per_epoch == 0:
            self._between.append(self._began - self._ended)

    def end(self, step: int):
        """Notes the time after an execution, when `step` steps of the training have been taken."""
        self._ended = self._clock()
        seconds, steps = self._ended - self._began, step - self.step
        self.step = step
        if self.first is None:
            self.first = seconds
        if steps in self._compiled:
            self._recent.append((steps, seconds))
            self.measured += seconds
        self._compiled.add(steps)

    @property
    def seconds_per_step(self) -> float | None:
        """Seconds of a step; `None` before the end of the second execution."""
        steps = sum(steps for steps, _ in self._recent)
        return sum(seconds for _, seconds in self._recent) / steps if steps else None

    @property
    def left(self) -> float | None:
        """Estimate of the seconds left; `None` before the end of the second execution."""
        return self._seconds(self.total - self.step)

    @property
    def whole(self) -> float | None:
        """Estimate of the seconds of the whole training, without compiling."""
        return self._seconds(self.total)

    def _seconds(self, steps: int) -> float | None:
        if self.seconds_per_step is None:
            return None
        # The first evaluation compiles, too.
        between = self._between[1:] or self._between
        epochs = max(0, -(-steps // self.steps_per_epoch) - 1)
        return steps * self.seconds_per_step + epochs * (
            statistics.fmean(between) if between else 0.0
        )


def format_duration(seconds: float) -> str:
    """Returns a duration in the unit that suits it.

    Example:
        >>> format_duration(45), format_duration(700), format_duration(10_000)
        ('45 s', '12 min', '2.8 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def format_number(value: float) -> str:
    """Returns a number with three digits, without an exponent.

    Example:
        >>> format_number(0.12345), format_number(45.67), format_number(12_345.6)
        ('0.123', '45.7', '12,346')
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
