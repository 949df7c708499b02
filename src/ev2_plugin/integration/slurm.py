"""The scheduler as seen from where jobs are submitted: whether it is there, what it offers, what it refuses."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from submitit import AutoExecutor
from submitit.core.utils import FailedJobError

CLUSTERS = ("slurm", "local")
"""Where jobs may run: on a cluster, or as processes of this machine."""

_COMMANDS = ("sbatch", "srun", "sinfo", "squeue", "scontrol")


class SubmissionError(RuntimeError):
    """The scheduler is not there or does not take a job; the message carries its own words."""


def open_executor(cluster: str, folder: Path, time_limits: int) -> AutoExecutor:
    """Return what submits jobs.

    Args:
        cluster: One of `CLUSTERS`.
        folder: For logs and what jobs are to do; `%j` is the job's number.
        time_limits: How often a job may reach its time limit and be queued again.

    Raises:
        SubmissionError: If jobs are for SLURM and its commands are not here. (submitit would run them here instead.)
    """
    missing = [command for command in _COMMANDS if shutil.which(command) is None]
    if cluster == "slurm" and missing:
        raise SubmissionError(
            f"--submit needs SLURM, and there is no {', '.join(missing)} on this machine: go to one that submits jobs, "
            "leave --submit out to run here, or give --cluster local to run here in the background"
        )
    return AutoExecutor(folder=folder, cluster=cluster, slurm_max_num_timeout=time_limits)


def partition_has_gpus(partition: str | None) -> bool:
    """Whether nodes of a partition have GPUs, by their generic resources; this machine itself may have none.

    Args:
        partition: One or several with commas between; the default one if None.

    Raises:
        SubmissionError: If SLURM does not answer, or has no such partition.
    """
    named = [f"--partition={partition}"] if partition else []
    answer = _ask("sinfo", "--noheader", "--format=%P|%G", *named)
    rows = [line.split("|", 1) for line in answer.splitlines()]
    resources = [resource for name, resource in rows if partition or name.endswith("*")]
    if not resources and partition:
        for one in partition.split(","):
            _ask("scontrol", "show", "partition", one)  # fails if there is none: sinfo does not tell
    # a cluster that shows no nodes to users is asked for GPUs: it will say so itself if it has none
    return not resources or any(kind.startswith("gpu") for resource in resources for kind in resource.split(","))


def _ask(*command: str) -> str:
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SubmissionError(f"SLURM answers: {_words(answer.stderr or answer.stdout)}")
    return answer.stdout


@contextmanager
def refusals() -> Iterator[None]:
    """Jobs are submitted within; what sbatch says against them becomes an error in its words.

    Raises:
        SubmissionError: If it does not take a job.
    """
    try:
        yield
    except FailedJobError as error:
        raise SubmissionError(f"SLURM does not take the job: {_words(str(error))}") from error


def _words(errors: str) -> str:
    """What SLURM's commands wrote to the standard error, without their names before each line."""
    lines = [line.split("error: ", 1)[-1].strip() for line in errors.splitlines()]
    return "; ".join(line for line in lines if line) or "without a word"
