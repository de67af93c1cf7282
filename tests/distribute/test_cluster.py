"""Workers read their cluster from the environment, and wait for each other."""

import json
import threading

import pytest

from keras_ssl.distribute import rendezvous
from keras_ssl.distribute.cluster import Cluster, expand_hosts, from_environment
from tests import cluster


def tf_config(jobs, **task):
    return {"TF_CONFIG": json.dumps({"cluster": jobs, "task": task})}


def slurm(nodes, tasks, number, node, local, job=7):
    return {
        "SLURM_STEP_NODELIST": nodes,
        "SLURM_STEP_TASKS_PER_NODE": tasks,
        "SLURM_PROCID": str(number),
        "SLURM_NODEID": str(node),
        "SLURM_LOCALID": str(local),
        "SLURM_JOB_ID": str(job),
    }


def test_workers_of_tf_config():
    jobs = {"worker": ["a:1", "b:2"]}
    assert from_environment(tf_config(jobs, type="worker", index=1)) == Cluster(("a:1", "b:2"), 1)


def test_a_chief_is_the_first_worker():
    jobs = {"chief": ["c:1"], "worker": ["a:1", "b:1"]}
    expected = ("c:1", "a:1", "b:1")
    assert from_environment(tf_config(jobs, type="chief", index=0)) == Cluster(expected, 0)
    assert from_environment(tf_config(jobs, type="worker", index=1)) == Cluster(expected, 2)


def test_a_single_worker_is_no_cluster():
    assert from_environment({}) is None
    assert from_environment(tf_config({"worker": ["a:1"]}, type="worker", index=0)) is None
    assert from_environment(slurm("node1", "1", 0, 0, 0)) is None


def test_tasks_of_slurm():
    found = from_environment(slurm("gpu[08-10],login", "2(x2),1(x2)", 3, 1, 1))
    hosts, ports = zip(*(address.split(":") for address in found.addresses), strict=True)
    assert hosts == ("gpu08", "gpu08", "gpu09", "gpu09", "gpu10", "login")
    first = int(ports[0])
    assert [int(port) - first for port in ports] == [0, 1, 0, 1, 0, 0]
    assert found.own == 3
    other_job = from_environment(slurm("gpu[08-10],login", "2(x2),1(x2)", 3, 1, 1, job=8))
    assert not set(found.addresses) & set(other_job.addresses)


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("n1", ["n1"]),
        ("n[1-3]", ["n1", "n2", "n3"]),
        ("n[098-101,7]", ["n098", "n099", "n100", "n101", "n7"]),
        ("a[1-2]b[3,5],c", ["a1b3", "a1b5", "a2b3", "a2b5", "c"]),
    ],
)
def test_lists_of_hosts(text, hosts):
    assert expand_hosts(text) == hosts


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"TF_CONFIG": "{"}, r"TF_CONFIG must be JSON.*Received: '\{'"),
        (tf_config({"worker": ["a:1", "b:1"]}, type="ps", index=0), "must be one of its workers"),
        (tf_config({"worker": ["a:1", "b:1"]}, type="worker", index=2), "'index': 2.* 2 workers"),
        (tf_config({"worker": ["a:1", "b:1"]}), "Received: task={}"),
        (slurm("n[1-2]", "1", 0, 0, 0), "must be equally long"),
        (slurm("n[1-2]", "x", 0, 0, 0), "must be counts such as"),
        (slurm("n[1-2]", "2(x2)", 1, 1, 0), "--distribution=block.*SLURM_PROCID=1"),
    ],
)
def test_inconsistent_environments_are_refused(environment, message):
    with pytest.raises(ValueError, match=message):
        from_environment(environment)


def test_workers_wait_until_all_have_started():
    addresses = [f"localhost:{port}" for port in cluster.free_ports(3)]
    met = []

    def start(number):
        rendezvous.meet(addresses, number, timeout=30)
        met.append(number)

    threads = [threading.Thread(target=start, args=(number,)) for number in range(3)]
    for thread in threads[:2]:
        thread.start()
    threads[0].join(0.5)
    assert met == []
    threads[2].start()
    for thread in threads:
        thread.join(30)
    assert sorted(met) == [0, 1, 2]


def test_a_missing_worker_is_named():
    addresses = [f"localhost:{port}" for port in cluster.free_ports(2)]
    with pytest.raises(TimeoutError, match=f"worker 0 did not reach 1 .{addresses[1]}"):
        rendezvous.meet(addresses, 0, timeout=0.3)


def test_an_occupied_port_is_refused():
    addresses = [f"localhost:{port}" for port in cluster.free_ports(2)]
    with (
        rendezvous._listener(addresses[0]),
        pytest.raises(OSError, match="The port of this worker must be free"),
    ):
        rendezvous.meet(addresses, 0, timeout=0.3)
