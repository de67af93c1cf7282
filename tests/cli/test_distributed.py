"""`keras-ssl pretrain` in several processes, as SLURM starts them."""

import numpy as np
import pytest

from keras_ssl.callbacks.checkpoint_files import checkpoints
from keras_ssl.runs.directory import Run
from tests import cluster

CLI = "keras_ssl.cli"


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    data = tmp_path_factory.mktemp("data") / "images.npz"
    images = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 3), np.uint8)
    np.savez(data, images=images)
    network = ["--backbone", "tiny", "--width", 0.25, "--embedding", 8]
    return ["pretrain", "--data", data, "--epochs", 2, "--batch-size", 16, *network]


def run(workers, *words, **how):
    return cluster.finish(cluster.start(workers, CLI, *words, **how))


def variables(path):
    return np.load(checkpoints(Run(path).checkpoints)[-1][1] / "variables.npz")


@pytest.mark.large
def test_two_tasks_of_slurm_train_the_weights_of_one_process(words, tmp_path):
    # The same command starts and resumes a run.
    ((status, printed),) = run(1, *words, "--resume", tmp_path / "one")
    assert status == 0, printed
    results = run(2, *words, "--resume", tmp_path / "two", slurm=True)
    assert [status for status, _ in results] == [0, 0], results
    assert "Done: epoch 2" in results[0][1]
    assert "Done" not in results[1][1]  # only the first worker prints
    assert [line["epoch"] for line in Run(tmp_path / "two").history] == [1, 2]
    one, two = variables(tmp_path / "one"), variables(tmp_path / "two")
    for name, other in zip(one, two, strict=True):
        # Training amplifies differences of rounding. tests/distribute compares in float64.
        np.testing.assert_allclose(one[name], two[other], atol=1e-2, err_msg=name)

    results = run(2, *words, "--resume", tmp_path / "two", slurm=True)
    assert [status for status, _ in results] == [0, 0], results
    assert "Done: epoch 2" in results[0][1]


@pytest.mark.large
def test_workers_need_one_directory(words):
    for status, printed in run(2, *words):
        assert status == 1
        assert "Several workers need one run directory" in printed
