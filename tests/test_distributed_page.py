"""docs/distributed.md: its examples run, and its scripts for clusters are read correctly."""

import json
import os
import pathlib
import re
import subprocess
import textwrap

import pytest

from keras_ssl.distribute import cluster

PAGE = (pathlib.Path(__file__).parents[1] / "docs" / "distributed.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def tf_config(script, **variables):
    """Returns the value that a script gives to `TF_CONFIG`."""
    command = re.search(r"^ *export TF_CONFIG=.*?\}\}'$", script, re.DOTALL | re.MULTILINE).group()
    environment = {**os.environ, **variables}
    script = command + '\nprintf "%s" "$TF_CONFIG"'
    return subprocess.run(
        ["bash", "-c", script], env=environment, check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.large
def test_the_examples_run_in_order():
    names = {"__name__": "docs_distributed"}
    for example in blocks("python"):
        exec(example, names)
    assert names["view_1"].shape == names["view_2"].shape == (4, 32, 32, 3)
    assert int(names["model"].optimizer.iterations) == 2 * (1437 // 256)


@pytest.mark.parametrize("script", blocks("bash"))
def test_shell_scripts_have_no_syntax_error(script):
    subprocess.run(["bash", "-n", "-c", script], check=True)


def test_tf_config_by_hand_names_the_workers():
    (script,) = (each for each in blocks("bash") if "TF_CONFIG" in each)
    found = cluster.from_environment({"TF_CONFIG": tf_config(script)})
    assert found == cluster.Cluster(("10.0.0.1:12345", "10.0.0.2:12345"), 0)


def test_each_pod_of_the_job_finds_its_number():
    (manifest,) = blocks("yaml")
    for index in range(2):
        config = tf_config(textwrap.dedent(manifest), JOB_COMPLETION_INDEX=str(index))
        found = cluster.from_environment({"TF_CONFIG": config})
        assert found == cluster.Cluster(("photos-0.photos:12345", "photos-1.photos:12345"), index)
    # The job starts as many workers, under these names.
    assert "completions: 2\n  parallelism: 2" in manifest
    assert manifest.count("\n  name: photos\n") == 2
    assert "subdomain: photos\n" in manifest
    assert len(json.loads(config)["cluster"]["worker"]) == 2


def test_the_job_of_slurm_is_found_by_the_strategy():
    (script,) = (each for each in blocks("bash") if "srun" in each)
    nodes = int(re.search(r"--nodes=(\d+)", script).group(1))
    assert "--ntasks-per-node=1" in script
    assert "--strategy auto" in script
    for node in range(nodes):
        found = cluster.from_environment(
            {
                "SLURM_PROCID": str(node),
                "SLURM_NODEID": str(node),
                "SLURM_LOCALID": "0",
                "SLURM_JOB_ID": "1",
                "SLURM_STEP_NODELIST": f"gpu[1-{nodes}]",
                "SLURM_STEP_TASKS_PER_NODE": f"1(x{nodes})",
            }
        )
        assert found.own == node
        assert [address.split(":")[0] for address in found.addresses] == ["gpu1", "gpu2"]
