"""Reads the list of workers from the environment: `TF_CONFIG` or a SLURM job step."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

_PORTS = range(12_000, 32_000)  # below the ephemeral ports of operating systems


@dataclass(frozen=True)
class Cluster:
    """Worker processes that train together.

    Args:
        addresses: "host:port" of each worker, ordered by worker number.
        own: number of this process.
    """

    addresses: tuple[str, ...]
    own: int


def from_environment(environment: Mapping[str, str] = os.environ) -> Cluster | None:
    """Returns the cluster that this process belongs to; `None` if it has no other workers.

    Reads `TF_CONFIG`, or else the variables that `srun` sets for each task.

    Raises:
        ValueError: if the variables are malformed or inconsistent.
    """
    cluster = _from_tf_config(environment) if environment.get("TF_CONFIG") else None
    if cluster is None and environment.get("SLURM_PROCID"):
        cluster = _from_slurm(environment)
    return cluster if cluster is not None and len(cluster.addresses) > 1 else None


def _from_tf_config(environment: Mapping[str, str]) -> Cluster | None:
    try:
        config = json.loads(environment["TF_CONFIG"])
        jobs = config.get("cluster", {})
        chiefs, workers = list(jobs.get("chief", [])), list(jobs.get("worker", []))
    except (ValueError, AttributeError) as error:
        raise ValueError(
            'TF_CONFIG must be JSON such as {"cluster": {"worker": ["a:1234", "b:1234"]}, "task": '
            f'{{"type": "worker", "index": 0}}}}. Received: {environment["TF_CONFIG"]!r}'
        ) from error
    if len(chiefs + workers) < 2:
        return None
    task = config.get("task", {})
    before = {"chief": 0, "worker": len(chiefs)}.get(task.get("type"))
    count = {"chief": len(chiefs), "worker": len(workers)}.get(task.get("type"), 0)
    index = task.get("index")
    if before is None or not isinstance(index, int) or not 0 <= index < count:
        raise ValueError(
            "The task of TF_CONFIG must be one of its workers, or its chief. "
            f"Received: task={task}, and {len(chiefs)} chiefs and {len(workers)} workers"
        )
    return Cluster((*chiefs, *workers), before + index)


def _from_slurm(environment: Mapping[str, str]) -> Cluster | None:
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_NODELIST", "")
    tasks = environment.get("SLURM_STEP_TASKS_PER_NODE", "1")
    hosts, counts = expand_hosts(nodes), _expand_counts(tasks)
    if len(hosts) != len(counts):
        raise ValueError(
            "SLURM's lists of nodes and of tasks per node must be equally long. Received: "
            f"SLURM_STEP_NODELIST={nodes!r}, SLURM_STEP_TASKS_PER_NODE={tasks!r}"
        )
    # Jobs that share a node need different ports.
    first = _PORTS[int(environment.get("SLURM_JOB_ID", "0")) * 64 % len(_PORTS)]
    places = [
        (node, local) for node, count in enumerate(counts) for local in range(count)
    ]  # by default, SLURM fills one node after the other
    addresses = tuple(f"{hosts[node]}:{first + local}" for node, local in places)
    own = int(environment["SLURM_PROCID"])
    received = tuple(int(environment.get(f"SLURM_{name}", -1)) for name in ("NODEID", "LOCALID"))
    if not 0 <= own < len(places) or (-1 not in received and received != places[own]):
        raise ValueError(
            "SLURM's tasks must fill one node after the other: use srun --distribution=block. "
            f"Received: SLURM_PROCID={own}, SLURM_NODEID={received[0]}, SLURM_LOCALID={received[1]}, "
            f"for {tasks} tasks per node"
        )
    return Cluster(addresses, own)


def expand_hosts(text: str) -> list[str]:
    """Returns the host names in a SLURM node list.

    Example:
        >>> expand_hosts("gpu[08-10],login")
        ['gpu08', 'gpu09', 'gpu10', 'login']
    """
    hosts = []
    for part in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text):
        names = [""]
        for literal, ranges in re.findall(r"([^\[]+)|\[([^\]]*)\]", part):
            endings = [literal] if literal else _expand_ranges(ranges)
            names = [name + ending for name in names for ending in endings]
        hosts += names
    return hosts


def _expand_ranges(text: str) -> list[str]:
    numbers = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        width = len(first)
        numbers += [f"{number:0{width}d}" for number in range(int(first), int(last or first) + 1)]
    return numbers


def _expand_counts(text: str) -> list[int]:
    counts = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if match is None:
            raise ValueError(
                f"SLURM_STEP_TASKS_PER_NODE must be counts such as '2(x3),1'. Received: {text!r}"
            )
        counts += [int(match[1])] * int(match[2] or 1)
    return counts
