"""What is asked of SLURM and what its batch script does, with stand-ins for its commands; a real one: tests/cluster."""

import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ev2_plugin.cli.main import app
from ev2_plugin.integration import slurm
from ev2_plugin.integration.free_port import FIRST, free_port
from ev2_plugin.integration.job_script import KILLS, after_the_run
from ev2_plugin.integration.slurm import SubmissionError, open_executor, partition_has_gpus
from helpers import tiny_s2ef

Commands = Callable[..., Path]
REJECTED = """
echo "sbatch: error: invalid partition specified: gold" >&2
echo "sbatch: error: Batch job submission failed: Invalid partition name specified" >&2
exit 1
"""
HEADER = "%P|%G"


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Put shell scripts first in the search path; the cluster is one without GPUs unless another sinfo is given."""
    folder = tmp_path / "commands"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    def put(**scripts: str) -> Path:
        for name, script in scripts.items():
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)
        return folder

    put(srun="exit 1", scontrol="exit 1", squeue="exit 1", sbatch="exit 1", sinfo='echo "cpu*|(null)"')
    return put


def train(folder: Path, *arguments: str) -> str:
    """Run `ev2 fairchem --submit`; return what it says, of a failure the last line."""
    dataset = tiny_s2ef.write_dataset("lmdb", folder / "data")
    config = tiny_s2ef.write_config(folder / "run.yml", tiny_s2ef.config(dataset, tiny_s2ef.FLAT_MODEL, "ocp"))
    flags = ["--mode", "train", "--config-yml", str(config), "--run-dir", str(folder), "--logdir", str(folder / "logs")]
    return CliRunner().invoke(app, ["fairchem", *flags, "--submit", *arguments]).output.strip()


def submitted_script(folder: Path) -> str:
    (script,) = (folder / "logs").glob("7/*_submission.sh")
    return script.read_text()


@pytest.mark.usefixtures("restored_process_state")
def test_without_slurm_a_submission_is_an_error_with_the_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm.shutil, "which", lambda command: None)
    said = train(tmp_path, "--cpu").splitlines()[-1]
    assert said.startswith("error: --submit needs SLURM, and there is no sbatch, srun, sinfo, squeue, scontrol on this")
    assert said.endswith("leave --submit out to run here, or give --cluster local to run here in the background")
    assert not (tmp_path / "logs").exists()


@pytest.mark.usefixtures("restored_process_state")
def test_what_sbatch_says_against_a_run_is_the_error(tmp_path: Path, commands: Commands) -> None:
    commands(sbatch=REJECTED)
    said = train(tmp_path, "--cpu", "--slurm-partition", "gold").splitlines()[-1]
    assert said == (
        "error: SLURM does not take the job: invalid partition specified: gold; "
        "Batch job submission failed: Invalid partition name specified"
    )


@pytest.mark.usefixtures("restored_process_state")
def test_a_cluster_that_does_not_answer_is_an_error_in_its_words(tmp_path: Path, commands: Commands) -> None:
    commands(sinfo='echo "sinfo: error: Unable to contact slurm controller (connect failure)" >&2; exit 1')
    said = train(tmp_path).splitlines()[-1]
    assert said == "error: SLURM answers: Unable to contact slurm controller (connect failure)"


@pytest.mark.usefixtures("restored_process_state")
@pytest.mark.parametrize(
    ("resources", "arguments", "asked"),
    [
        ("gpu*|gpu:a100:8(S:0-1)", [], True),
        ("gpu*|gpu:a100:8(S:0-1)", ["--cpu"], False),
        ("cpu*|(null)", [], False),
    ],
)
def test_gpus_are_asked_for_where_the_cluster_has_them(
    resources: str, arguments: list[str], asked: bool, tmp_path: Path, commands: Commands
) -> None:
    commands(sinfo=f'echo "{resources}"', sbatch="echo Submitted batch job 7")
    train(tmp_path, "--num-gpus", "4", "--num-nodes", "2", *arguments)  # this machine has no GPU
    script = submitted_script(tmp_path)
    assert ("#SBATCH --gpus-per-node=4" in script) == asked
    for line in ("--nodes=2", "--ntasks-per-node=4", "--mem=80GB", "--time=4320", "--signal=USR2@90", "--requeue"):
        assert f"#SBATCH {line}\n" in script


@pytest.mark.parametrize(
    ("answer", "partition", "found"),
    [
        ("cpu*|(null)\ngpu|gpu:4", None, False),  # the default partition is meant
        ("cpu|(null)\ngpu*|gpu:4", None, True),
        ("cpu|(null)\ngpu|gpu:4", "cpu,gpu", True),
        ("mixed|(null)\nmixed|craynetwork:4,gpu:v100:2", "mixed", True),
        ("ssd|nvme:gpu_cache:1", "ssd", False),
        ("", None, True),  # nodes are hidden from users: SLURM decides
    ],
)
def test_gpus_are_found_in_the_resources_of_a_partition(
    answer: str, partition: str | None, found: bool, commands: Commands
) -> None:
    folder = commands(sinfo=f'echo "$@" > "$(dirname "$0")/asked"; printf "{answer}"')
    assert partition_has_gpus(partition) is found
    asked = (folder / "asked").read_text().split()
    assert asked == ["--noheader", f"--format={HEADER}", *([f"--partition={partition}"] if partition else [])]


def test_jobs_here_need_no_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm.shutil, "which", lambda command: None)
    assert open_executor("local", tmp_path, time_limits=1).cluster == "local"
    with pytest.raises(SubmissionError):
        open_executor("slurm", tmp_path, time_limits=1)


def test_a_port_in_use_is_passed_over() -> None:
    first = free_port(1)
    assert first >= FIRST
    with socket.socket() as taken:
        taken.bind(("", first))
        assert free_port(first - FIRST) > first
    assert free_port(1) == first
    assert free_port(20_001) == first  # numbers of jobs grow without end


def run_script(folder: Path, status: int, state: str, commands: Commands, array: str = "") -> tuple[int, str]:
    """End a run with a status; return the script's own and what was queued again."""
    queued = folder / "queued"
    queued.unlink(missing_ok=True)
    commands(squeue=f"echo {state}", scontrol=f'echo "$@" > {queued}')
    lines = ["started=$(date +%s)", f"(exit {status})", "", *after_the_run([folder / "first", folder / "a second"])]
    environment = {**os.environ, "SLURM_JOB_ID": "12"}
    if array:
        environment |= {"SLURM_ARRAY_JOB_ID": "11", "SLURM_ARRAY_TASK_ID": array}
    done = subprocess.run(["bash", "-c", "\n".join(lines)], env=environment, capture_output=True, text=True)
    return done.returncode, queued.read_text().strip() if queued.exists() else ""


@pytest.mark.parametrize("status", [130, 137, 140, 143])
def test_a_killed_run_is_queued_again(status: int, tmp_path: Path, commands: Commands) -> None:
    assert run_script(tmp_path, status, "RUNNING", commands) == (status, "requeue 12")
    assert run_script(tmp_path, status, "RUNNING", commands, array="1") == (status, "requeue 11_1")
    assert (tmp_path / "a second" / "kills_without_progress").read_text() == "11_1\n"


@pytest.mark.parametrize(("status", "state"), [(0, "RUNNING"), (1, "RUNNING"), (255, "RUNNING"), (137, "COMPLETING")])
def test_what_ended_by_itself_or_was_cancelled_is_not(
    status: int, state: str, tmp_path: Path, commands: Commands
) -> None:
    assert run_script(tmp_path, status, state, commands) == (status, "")


def test_a_run_that_is_killed_without_having_saved_is_given_up(tmp_path: Path, commands: Commands) -> None:
    for _ in range(KILLS):
        assert run_script(tmp_path, 137, "RUNNING", commands)[1]
    assert not run_script(tmp_path, 137, "RUNNING", commands)[1]
    saved = tmp_path / "first" / "checkpoint.pt"
    saved.touch()
    os.utime(saved, (time.time() + 5, time.time() + 5))
    assert run_script(tmp_path, 137, "RUNNING", commands)[1]
    assert (tmp_path / "first" / "kills_without_progress").read_text() == "12\n"
