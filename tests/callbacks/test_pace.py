"""The speed of training and the estimate of the time left."""

import pytest

from keras_ssl.callbacks.pace import Pace, format_duration, format_number


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def train(pace, clock, executions, between=()):
    """Runs (steps, seconds) executions; `between` has the seconds after each epoch."""
    gaps = iter(between)
    step = pace.step
    for steps, seconds in executions:
        pace.begin()
        clock.now += seconds
        step += steps
        pace.end(step)
        if step % pace.steps_per_epoch == 0:
            clock.now += next(gaps, 0.0)


def test_the_first_execution_is_not_counted():
    pace = Pace(10, 100, clock=(clock := Clock()))
    train(pace, clock, [(1, 30.0)])
    assert (pace.first, pace.seconds_per_step, pace.left, pace.whole) == (30.0, None, None, None)
    train(pace, clock, [(1, 2.0), (1, 4.0)])
    assert (pace.seconds_per_step, pace.left, pace.whole) == (3.0, 97 * 3.0, 300.0)


def test_the_first_execution_of_another_length_compiles_too():
    # five batches in executions of two: the last one of an epoch has one step
    pace = Pace(5, 50, clock=(clock := Clock()))
    train(pace, clock, [(2, 30.0), (2, 2.0), (1, 25.0), (2, 2.0), (2, 2.0), (1, 1.0)])
    assert pace.seconds_per_step == 1.0
    assert pace.left == 40.0


def test_time_between_epochs_is_counted_once_per_epoch():
    pace = Pace(2, 20, clock=(clock := Clock()))
    train(pace, clock, [(1, 9.0), (1, 1.0), (1, 1.0), (1, 1.0)], between=[50.0, 3.0])
    assert pace.left == 16 * 1.0 + 7 * 50.0  # the only evaluation so far, which compiled
    train(pace, clock, [(1, 1.0), (1, 1.0)])
    assert pace.left == 14 * 1.0 + 6 * 3.0


def test_a_resumed_run_counts_its_own_steps():
    pace = Pace(10, 100, start=73, clock=(clock := Clock()))
    train(pace, clock, [(1, 30.0), (1, 2.0)])
    assert (pace.step, pace.left) == (75, 50.0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (99, "99 s"), (100, "2 min"), (5_999, "100 min"), (36_000, "10.0 h")],
)
def test_durations(seconds, text):
    assert format_duration(seconds) == text


def test_numbers_have_no_exponent():
    numbers = [0.0123, 1.5, 99.96, 1234567.0]
    assert [format_number(value) for value in numbers] == ["0.0123", "1.5", "100", "1,234,567"]
