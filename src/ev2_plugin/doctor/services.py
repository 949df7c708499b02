"""Findings on what runs are logged with and submitted to."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace

from ev2_plugin.doctor.dependencies import Needs
from ev2_plugin.doctor.finding import Finding
from ev2_plugin.doctor.packages import package_finding
from ev2_plugin.doctor.trials import Trial

_PATIENCE = 20  # seconds for a controller of a cluster
_COMMANDS = ("sbatch", "srun", "sinfo", "squeue", "scontrol")


def wandb_finding(trial: Trial, plugin: Trial, needs: Needs) -> Finding:
    """Weights & Biases, and where runs that log to it go."""
    finding = package_finding("wandb", trial, needs)
    if finding.severity != "ok":
        return finding
    mode = os.environ.get("WANDB_MODE")
    if mode:
        where = f"WANDB_MODE is {mode}"
    elif plugin.facts.get("wandb_is_settled"):
        where = "an account or a mode is configured"
    elif plugin.facts:
        where = "no account: runs are recorded here, `wandb login` sends them"
    else:
        return finding
    return replace(finding, found=f"{finding.found}; {where}")


def slurm_finding() -> Finding:
    """The scheduler, asked for its partitions."""
    missing = [command for command in _COMMANDS if shutil.which(command) is None]
    if len(missing) == len(_COMMANDS):
        return Finding(name="slurm", found="not on this machine; only --submit needs it")
    if missing:
        said = f"there is no {', '.join(missing)}, which --submit needs"
        mend = "sudo apt-get install -y slurm-client"
        return Finding(name="slurm", found=said, severity="warning", mend=mend)
    command = ["sinfo", "--noheader", "--format=%P %D nodes %T %G"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        said = f"sinfo does not answer within {_PATIENCE} s: the controller is not reached"
        return Finding(name="slurm", found=said, severity="warning", mend="scontrol ping")
    if answer.returncode:
        said = f"sinfo fails: {' '.join((answer.stderr or answer.stdout).split()) or 'without a word'}"
        return Finding(name="slurm", found=said, severity="warning", mend="scontrol ping")
    rows = [line.replace("(null)", "without GPUs").strip() for line in answer.stdout.splitlines() if line.strip()]
    return Finding(name="slurm", found="; ".join(rows) or "reached; it shows no partitions")
