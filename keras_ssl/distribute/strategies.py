"""The strategy that fits a machine."""

import difflib
import os

import tensorflow as tf

from keras_ssl.distribute import cluster, rendezvous

Strategy = tf.distribute.Strategy
"""The base class of all strategies, for annotations and `isinstance`."""

_NAMES = ("auto", "none", "mirrored", "multi_worker", "tpu")


def strategy(name: str = "auto", timeout: float = 600.0) -> tf.distribute.Strategy:
    """Returns the `tf.distribute` strategy of that name.

    Several workers must call it before anything else of TensorFlow runs, models and data included; it
    returns when all of them are there.

    Args:
        name: "none" (TensorFlow's default strategy, one replica), "mirrored" (every local
            accelerator; every logical CPU where there is none), "multi_worker" (the workers that the
            environment variable `TF_CONFIG` lists, or the tasks of a SLURM job step), "tpu", or
            "auto": a TPU if there is one, else several workers, else several GPUs, else none.
        timeout: seconds that workers wait for each other to start.

    Raises:
        ValueError: for another name; for "multi_worker" where the environment names no workers, or
            contradicts itself.
        TimeoutError: if other workers do not start; says which.

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
        name = _detect()
    if name == "mirrored":
        return _mirrored()
    if name == "multi_worker":
        return _multi_worker(timeout)
    if name == "tpu":
        # Without a name TensorFlow asks a server of Google Cloud which TPU this machine has.
        name = os.environ.get("TPU_NAME") or "local"
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(name)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    return tf.distribute.get_strategy()


def _detect() -> str:
    if os.environ.get("TPU_NAME"):
        return "tpu"
    if cluster.from_environment() is not None:
        return "multi_worker"  # asked before the devices: workers cannot start after these
    if tf.config.list_logical_devices("TPU"):
        return "tpu"
    return "mirrored" if len(tf.config.list_logical_devices("GPU")) > 1 else "none"


def _multi_worker(timeout: float) -> tf.distribute.Strategy:
    workers = cluster.from_environment()
    if workers is None:
        raise ValueError(
            "Several workers need the environment variable TF_CONFIG, or a SLURM job step of several "
            "tasks, which say who they are. Received: neither"
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
    # Collectives between logical CPUs of one process are slow, and those of two strategies in one
    # process mistake each other's messages.
    return tf.distribute.MirroredStrategy(
        [device.name for device in tf.config.list_logical_devices("CPU")],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )
