"""The workers that the environment names: TF_CONFIG's, or those of a SLURM job step."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

_PORTS = range(12_000, 32_000)  # below those that systems give to programs that ask for any


@dataclass(frozen=True)
class Cluster:
    """Worker processes that train together.

    Args:
        addresses: "host:port" of each worker, in the order of their numbers.
        own: this process's number.
    """

    addresses: tuple[str, ...]
    own: int


def from_environment(environment: Mapping[str, str] = os.environ) -> Cluster | None:
    """Returns the cluster that this process belongs to; `None` if it is alone.

    `TF_CONFIG` comes first; then the variables that `srun` sets for each task.

    Raises:
        ValueError: if the variables contradict themselves.
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
            "SLURM's list of nodes and its tasks per node must be equally long. Received: "
            f"SLURM_STEP_NODELIST={nodes!r}, SLURM_STEP_TASKS_PER_NODE={tasks!r}"
        )
    # Jobs that share a node need ports of their own.
    first = _PORTS[int(environment.get("SLURM_JOB_ID", "0")) * 64 % len(_PORTS)]
    places = [
        (node, local) for node, count in enumerate(counts) for local in range(count)
    ]  # SLURM fills one node after the other, unless told otherwise
    addresses = tuple(f"{hosts[node]}:{first + local}" for node, local in places)
    own = int(environment["SLURM_PROCID"])
    said = tuple(int(environment.get(f"SLURM_{name}", -1)) for name in ("NODEID", "LOCALID"))
    if not 0 <= own < len(places) or (-1 not in said and said != places[own]):
        raise ValueError(
            "SLURM's tasks must fill one node after the other: srun --distribution=block. Received: "
            f"SLURM_PROCID={own}, SLURM_NODEID={said[0]}, SLURM_LOCALID={said[1]}, for {tasks} tasks "
            f"per node"
        )
    return Cluster(addresses, own)


def expand_hosts(text: str) -> list[str]:
    """Returns the names in a list of SLURM's.

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
