"""Lines that a job's batch script has around a run: a port for its ranks, and what follows when it has been killed."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

KILLS = 3
"""How often in a row a run may be killed without having saved anything in between."""


def before_the_run() -> list[str]:
    """Find a port at which ranks meet.

    It must be free on the job's first node, which is where the batch script runs. Jobs start their search at their
    number, so that two on one node do not come to the same.
    """
    return [
        "started=$(date +%s)",
        f"export MASTER_PORT=$({shlex.quote(sys.executable)} -m ev2_plugin.integration.free_port $SLURM_JOB_ID)",
    ]


def after_the_run(checkpoints: Sequence[Path]) -> list[str]:
    """Queue a run again that has been killed from outside.

    The status is then 128 and the signal: INT and TERM (the plugin's trainer has saved), KILL, USR2 (before anything
    handled it). An error in Python has another. A job that the user has cancelled is not RUNNING any more, nor is one
    that has been queued again. KILL may also come from too little memory: a run that saves nothing is given up.

    Args:
        checkpoints: Where each run of the array saves.
    """
    return [
        "status=$?",
        "job=$SLURM_JOB_ID",
        "[ -z $SLURM_ARRAY_JOB_ID ] || job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID",
        f"folders=({shlex.join(map(str, checkpoints))})",
        "checkpoints=${folders[${SLURM_ARRAY_TASK_ID:-0}]}",
        "kills=$checkpoints/kills_without_progress",
        "case $status in 130|137|140|143)",
        '  if [ "$(squeue --noheader --job=$job --format=%T)" = RUNNING ]; then',
        '    mkdir -p "$checkpoints"',
        '    if [ -n "$(find "$checkpoints" -name "*.pt" -newermt @$started)" ]; then rm -f "$kills"; fi',
        '    echo $job >> "$kills"',
        f'    if [ $(wc -l < "$kills") -le {KILLS} ]; then',
        '      echo "the run was killed (status $status): queued again" >&2',
        "      scontrol requeue $job",
        "    else",
        f'      echo "the run was killed {KILLS + 1} times in a row without saving anything: given up" >&2',
        "    fi",
        "  fi",
        "esac",
        "exit $status",
    ]
