"""Starts worker processes on this machine, like the scheduler of a cluster."""

import json
import os
import pathlib
import socket
import subprocess
import sys

TESTS = pathlib.Path(__file__).parent


def start(workers, script, *words, devices=1, slurm=False):
    """Starts a script once per worker, and returns the processes.

    Args:
        workers: number of processes.
        script: file in tests/, or module of the package.
        *words: arguments of the script.
        devices: number of logical CPUs per process.
        slurm: describe the workers with the variables of SLURM instead of TF_CONFIG.
    """
    ports = free_ports(workers)
    cluster = {"worker": [f"localhost:{port}" for port in ports]}
    program = [TESTS / script] if script.endswith(".py") else ["-m", script]
    processes = []
    for index in range(workers):
        task = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        variables = {
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "LOGICAL_CPUS": str(devices),
            "PYTHONPATH": os.pathsep.join([str(TESTS.parent), os.environ.get("PYTHONPATH", "")]),
        }
        if slurm:
            variables |= {
                "SLURM_JOB_ID": str(os.getpid()),
                "SLURM_PROCID": str(index),
                "SLURM_NODEID": "0",
                "SLURM_LOCALID": str(index),
                "SLURM_STEP_NODELIST": "localhost",
                "SLURM_STEP_TASKS_PER_NODE": str(workers),
            }
        elif workers > 1:
            variables["TF_CONFIG"] = json.dumps(task)
        command = [sys.executable, *program, *map(str, words)]
        processes.append(
            subprocess.Popen(
                command,
                env=variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        )
    return processes


def finish(processes, timeout=300):
    """Waits for processes; returns the exit status and the output of each."""
    results = []
    try:
        for process in processes:
            out, _ = process.communicate(timeout=timeout)
            results.append((process.returncode, out))
    finally:
        for process in processes:
            process.kill()
    return results


def make_logical_cpus():
    """Creates as many logical CPUs as the environment variable LOGICAL_CPUS says."""
    import tensorflow as tf

    count = int(os.environ.get("LOGICAL_CPUS", "1"))
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * count
    )


def free_ports(count):
    """Returns ports that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("localhost", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
