"""The cluster of these tests itself: what the others rely on, and that nothing of it is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import slurm_cluster
from helpers.slurm_cluster import SlurmCluster

pytestmark = pytest.mark.cluster


def test_two_nodes_run_a_step_of_four_tasks(cluster: SlurmCluster) -> None:
    said = cluster.run("srun", "--nodes=2", "--ntasks=4", "sh", "-c", "echo $SLURMD_NODENAME $SLURM_PROCID")
    nodes, ranks = zip(*(line.split() for line in said.splitlines()), strict=True)
    assert set(nodes) == set(slurm_cluster.NODES)
    assert sorted(ranks) == ["0", "1", "2", "3"]


def alive(mark: str) -> list[int]:
    return slurm_cluster._processes(lambda environment: mark.encode() in environment)


@pytest.mark.parametrize("death", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_when_its_user_dies_daemons_jobs_and_files_are_gone(death: signal.Signals, cluster: SlurmCluster) -> None:
    """Beside the tests' own cluster, so two do not disturb each other either."""
    program = (
        "import time\nfrom helpers.slurm_cluster import SlurmCluster\ncluster = SlurmCluster()\n"
        "cluster.run('sbatch', '--output=/dev/null', '--wrap=srun --output=/dev/null sleep 1000')\n"
        "print(cluster.folder, flush=True)\ntime.sleep(1000)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(slurm_cluster.__file__).parents[1])}
    user = subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
    assert user.stdout is not None
    with user.stdout:
        folder = Path(user.stdout.readline().strip())
        mark = f"SLURM_CONF={folder}/slurm.conf\0"
        deadline = time.monotonic() + 30
        while not any("sleep" in Path(f"/proc/{one}/comm").read_text() for one in alive(mark)):
            assert time.monotonic() < deadline, "the job did not start"
            time.sleep(0.1)
        user.send_signal(death)
        user.wait()
    while (left := alive(mark)) or folder.exists():
        assert time.monotonic() < deadline + 30, f"left behind: {left}"
        time.sleep(0.1)
    assert cluster.run("sinfo", "--noheader", "--format=%P").split() == ["cpu*", "urgent"]
