"""Runs in separate processes that are killed, stopped, or find the disk full.

Training saves after every step, so that a kill at a random moment often interrupts the writing of a
checkpoint.
"""

import random
import resource
import signal
import time

import numpy as np
import pytest

from keras_ssl.callbacks import checkpoint_files
from tests import cluster

RUN = "distribute/run.py"
LIMIT = 120  # seconds until the others stop after a worker is lost, as in docs/resuming.md


def finish(*processes):
    return cluster.finish(processes)


def run_to_end(directory, *words, workers=1):
    results = finish(*cluster.start(workers, RUN, directory, *words))
    for status, printed in results:
        assert status == 0, printed
    return [np.load(directory / f"weights-{worker}.npz") for worker in range(workers)]


def wait_for_steps(process, count=1):
    """Waits until a process has completed its first steps."""
    for line in process.stdout:
        if line == "step\n":
            count -= 1
        if count == 0:
            return
    raise AssertionError(
        f"the process exited with status {process.wait()} before {count} more steps"
    )


def assert_same(first, second):
    assert set(first) == set(second)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def kill_at_random_moments(directory, words, kills, generator):
    """Kills and resumes a run repeatedly, every other time while it writes a checkpoint.

    Returns the number of kills that left an unfinished checkpoint.
    """
    unfinished = 0
    for number in range(kills):
        (process,) = cluster.start(1, RUN, directory, *words)
        wait_for_steps(process)
        time.sleep(generator.uniform(0.0, 0.5))
        deadline = time.monotonic() + 10
        while number % 2 and not is_writing(directory) and time.monotonic() < deadline:
            pass
        process.kill()
        process.communicate()
        unfinished += is_writing(directory)
    return unfinished


def is_writing(directory):
    return any((directory / "checkpoints").glob("unfinished-*"))


@pytest.mark.large
def test_a_killed_run_ends_with_the_same_weights(tmp_path):
    words = ["--method", "moco", "--epochs", 40]
    (expected,) = run_to_end(tmp_path / "whole", *words)
    unfinished = kill_at_random_moments(tmp_path / "killed", words, 2, random.Random(1))
    assert unfinished > 0
    (found,) = run_to_end(tmp_path / "killed", *words)
    assert_same(found, expected)
    histories = [(tmp_path / name / "history.jsonl").read_text() for name in ("whole", "killed")]
    assert histories[0] == histories[1]


@pytest.mark.large
@pytest.mark.parametrize("method", ["simclr", "moco", "byol"])
def test_a_run_killed_twenty_times_ends_with_the_same_weights(method, tmp_path):
    words = ["--method", method, "--epochs", 300]
    (expected,) = run_to_end(tmp_path / "whole", *words)
    kills = random.Random(f"twenty {method}")
    unfinished = kill_at_random_moments(tmp_path / "killed", words, 20, kills)
    (found,) = run_to_end(tmp_path / "killed", *words)
    assert_same(found, expected)
    assert unfinished > 0  # otherwise no kill has interrupted a checkpoint


@pytest.mark.large
def test_a_run_directory_is_locked_and_sigterm_stops_the_run(tmp_path):
    (expected,) = run_to_end(tmp_path / "whole")
    (first,) = cluster.start(1, RUN, tmp_path / "run", "--seconds", 1)
    wait_for_steps(first)

    ((status, printed),) = finish(*cluster.start(1, RUN, tmp_path / "run"))
    assert status == 1
    assert "Only one process may train in a run directory" in printed

    start = time.monotonic()
    first.terminate()
    ((status, printed),) = finish(first)
    assert time.monotonic() - start < 30
    assert status == 128 + signal.SIGTERM
    assert "stopped by SIGTERM after step" in printed

    ((status, printed),) = finish(*cluster.start(1, RUN, tmp_path / "run", "--method", "byol"))
    assert status == 1
    assert "method: 'SimCLR(temperature=0.5)' in the run, 'BYOL()' now" in printed

    (found,) = run_to_end(tmp_path / "run")
    assert_same(found, expected)


@pytest.mark.large
def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path):
    (process,) = cluster.start(1, RUN, tmp_path / "run", "--epochs", 400, "--seconds", 0.1)
    wait_for_steps(process, 3)
    # The disk is full after half a checkpoint.
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (5_000, 5_000))
    ((status, printed),) = finish(process)
    assert status == 1
    assert "could not be written" in printed
    left = checkpoint_files.find_newest(tmp_path / "run" / "checkpoints")
    assert left is not None
    assert f"The newest intact checkpoint: {left.variables.parent}" in printed
    assert not list((tmp_path / "run" / "checkpoints").glob("unfinished-*"))


@pytest.mark.large
@pytest.mark.parametrize("killed", [0, 1])
def test_one_of_two_workers_is_killed(tmp_path, killed):
    words = ["--strategy", "multi_worker", "--epochs", 6]
    expected = run_to_end(tmp_path / "whole", *words, workers=2)
    workers = cluster.start(2, RUN, tmp_path / "killed", *words, "--seconds", 0.2)
    wait_for_steps(workers[0], 3)
    workers[killed].kill()
    start = time.monotonic()
    status, printed = finish(*workers)[1 - killed]
    assert time.monotonic() - start < LIMIT
    assert status == 1
    assert f"WorkerLostError: Worker {1 - killed} has lost another worker" in printed
    found = run_to_end(tmp_path / "killed", *words, workers=2)
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


@pytest.mark.large
def test_sigterm_to_one_of_two_workers_stops_both(tmp_path):
    words = ["--strategy", "multi_worker", "--seconds", 0.2, "--epochs", 40]
    workers = cluster.start(2, RUN, tmp_path / "run", *words)
    wait_for_steps(workers[0], 2)
    workers[1].terminate()
    results = finish(*workers)
    assert [status for status, _ in results] == [128 + signal.SIGTERM] * 2
    (step, path), *_ = reversed(checkpoint_files.checkpoints(tmp_path / "run" / "checkpoints"))
    assert checkpoint_files.find_damage(path) is None
    for _, printed in results:
        assert f"stopped by SIGTERM after step {step}" in printed
