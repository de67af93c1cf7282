"""Selects a `tf.distribute` strategy by name or from the environment."""

import difflib
import os

import tensorflow as tf

from keras_ssl.distribute import cluster, rendezvous

Strategy = tf.distribute.Strategy
"""The base class of all strategies, for annotations and `isinstance`."""

_NAMES = ("auto", "none", "mirrored", "multi_worker", "tpu")


def strategy(name: str = "auto", timeout: float = 600.0) -> tf.distribute.Strategy:
    """Returns the `tf.distribute` strategy with the given name.

    With several workers, call it before any other TensorFlow code, including models and data. It
    returns once all workers have started.

    Args:
        name: "none" (TensorFlow's default strategy with one replica), "mirrored" (all local GPUs,
            or all logical CPUs if there is none), "multi_worker" (the workers in the environment
            variable `TF_CONFIG`, or the tasks of a SLURM job step), "tpu", or "auto": the first
            available of "tpu", "multi_worker", "mirrored" with several GPUs, and "none".
        timeout: seconds to wait for other workers to start.

    Raises:
        ValueError: if `name` is unknown; for "multi_worker", if the environment names no workers or
            is inconsistent.
        TimeoutError: if other workers do not start. The message names them.

    Example:
        >>> strategy("none").num_replicas_in_sync
        1
    """
    if name not in _NAMES:
        near = difflib.get_close_matches(str(name), _NAMES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"`name` must be one of {', '.join(_NAMES)}.{hint} Received: name={name!r}"
        )
    if name == "auto":
        name = _detect_name()
    if name == "mirrored":
        return _mirrored()
    if name == "multi_worker":
        return _multi_worker(timeout)
    if name == "tpu":
        # Without a name, TensorFlow would ask a Google Cloud server for the TPU of this machine.
        name = os.environ.get("TPU_NAME") or "local"
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(name)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    return tf.distribute.get_strategy()


def _detect_name() -> str:
    if os.environ.get("TPU_NAME"):
        return "tpu"
    if cluster.from_environment() is not None:
        return "multi_worker"  # checked before the devices, whose initialization would be too early
    if tf.config.list_logical_devices("TPU"):
        return "tpu"
    return "mirrored" if len(tf.config.list_logical_devices("GPU")) > 1 else "none"


def _multi_worker(timeout: float) -> tf.distribute.Strategy:
    workers = cluster.from_environment()
    if workers is None:
        raise ValueError(
            "'multi_worker' needs the environment variable TF_CONFIG, or a SLURM job step with several "
            "tasks. Received: neither"
        )
    rendezvous.meet(workers.addresses, workers.own, timeout)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(workers.addresses)}),
        task_type="worker",
        task_id=workers.own,
        rpc_layer="grpc",
    )
    return tf.distribute.MultiWorkerMirroredStrategy(resolver)


def _mirrored() -> tf.distribute.Strategy:
    if gpus := tf.config.list_logical_devices("GPU"):
        return tf.distribute.MirroredStrategy([device.name for device in gpus])
    # Collective operations between logical CPUs of one process are slow, and those of two
    # strategies in one process mix up their messages.
    return tf.distribute.MirroredStrategy(
        [device.name for device in tf.config.list_logical_devices("CPU")],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )
