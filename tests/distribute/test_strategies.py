"""Strategies by name, and `all_gather` over two replicas."""

import json

import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import distribute
from keras_ssl.distribute import strategies


def test_none_has_one_replica():
    assert distribute.strategy("none").num_replicas_in_sync == 1
    assert distribute.replica_count() == 1
    assert distribute.replica_id() == 0


def test_auto_is_none_without_accelerators(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.delenv("TPU_NAME", raising=False)
    assert distribute.strategy("auto").num_replicas_in_sync == 1
    assert type(distribute.strategy()) is type(distribute.strategy("none"))


two_workers = json.dumps(
    {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}
)


@pytest.mark.parametrize(
    ("environment", "devices", "expected"),
    [
        ({"TPU_NAME": "local"}, {}, "tpu"),
        ({}, {"TPU": 8}, "tpu"),
        ({"TF_CONFIG": two_workers}, {}, "multi_worker"),
        ({"TF_CONFIG": two_workers}, {"GPU": 8}, "multi_worker"),
        ({"TF_CONFIG": json.dumps({"cluster": {"worker": ["a:1"]}})}, {}, "none"),
        ({}, {"GPU": 1}, "none"),
        ({}, {"GPU": 2}, "mirrored"),
    ],
)
def test_auto_selects_the_strategy(monkeypatch, environment, devices, expected):
    for name in ("TF_CONFIG", "TPU_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(
        tf.config, "list_logical_devices", lambda kind: ["device"] * devices.get(kind, 0)
    )
    assert strategies._detect_name() == expected


def test_multi_worker_needs_a_list_of_workers(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    with pytest.raises(ValueError, match=r"TF_CONFIG, or a SLURM job step.*Received: neither"):
        distribute.strategy("multi_worker")


def test_a_single_process_is_the_chief(two_replicas):
    for strategy in (distribute.strategy("none"), two_replicas):
        assert distribute.worker_count(strategy) == 1
        assert distribute.is_chief(strategy)
        np.testing.assert_array_equal(distribute.gather(strategy, 3), [3.0])
        distribute.check_equal(strategy, {"seed": 1})


def test_mirrored_uses_all_logical_cpus(two_replicas):
    assert two_replicas.num_replicas_in_sync == 2
    with two_replicas.scope():
        assert distribute.replica_count() == 2
    assert distribute.replica_count() == 1


@pytest.mark.parametrize(
    ("name", "near"), [("mirored", "mirrored"), ("multiworker", "multi_worker")]
)
def test_an_unknown_name_suggests_the_nearest(name, near):
    with pytest.raises(ValueError, match=f"Did you mean '{near}'.* Received: name='{name}'"):
        distribute.strategy(name)


def test_a_name_without_a_near_match_lists_all_names():
    with pytest.raises(
        ValueError, match=r"one of auto, none, mirrored, multi_worker, tpu\. Received"
    ):
        distribute.strategy("xyzzy")


def per_replica(strategy, values):
    """Gives each replica its half of the rows."""
    half = len(values) // 2
    return strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(values[half * context.replica_id_in_sync_group :][:half])
    )


def test_all_gather_on_two_replicas(two_replicas):
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    weights = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)

    def replica(local):
        number = distribute.replica_id()
        with tf.GradientTape() as tape:
            tape.watch(local)
            gathered = distribute.all_gather(local)
            # Each replica has different weights for the rows.
            loss = tf.reduce_sum(tf.gather(tf.constant(weights), number) * gathered**2)
        return number, gathered, tape.gradient(loss, local)

    @tf.function
    def run(inputs):
        return two_replicas.run(replica, args=(inputs,))

    numbers, gathered, gradients = map(
        two_replicas.experimental_local_results, run(per_replica(two_replicas, values))
    )
    assert [int(number) for number in numbers] == [0, 1]
    for rows in gathered:
        np.testing.assert_array_equal(rows, values)
    # The gradient of the sum over replicas, as on a single large replica.
    expected = weights.sum(axis=0) * 2 * values
    np.testing.assert_allclose(np.concatenate(gradients), expected, rtol=1e-6)


def test_all_gather_on_one_replica_returns_its_argument():
    values = tf.ones((3, 2))
    assert distribute.all_gather(values) is values
