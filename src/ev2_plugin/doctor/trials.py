"""Trials of imports in processes of their own: whatever crashes or hangs there is told, and the others still happen."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PROBE = Path(__file__).with_name("probe.py")
_FRAME = re.compile(r'^  File "(.+)", line (\d+) in', re.MULTILINE)
_NEEDS = {
    "torch_scatter": ("torch",),
    "torch_sparse": ("torch",),
    "torch_geometric": ("torch",),
    "e3nn": ("torch",),
    "fairchem.core._cli": ("torch", "torch_scatter", "torch_geometric", "e3nn"),
    "registry": ("fairchem.core._cli",),
    "plugin": ("fairchem.core._cli",),
}
_TRIES_TO_IMPORT = {"torch_geometric": ("torch_scatter", "torch_sparse"), "registry": ("torch_sparse",)}
"""What a stage does without if it is not there, but which takes it along if it crashes."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What came of a stage.

    Attributes:
        facts: What it found; empty if it failed.
        failure: What went wrong, in words; None if nothing did.
        module: The module that an ImportError names.
        place: File and line where it went wrong.
        died: Whether the process crashed, hung or ended, instead of raising an error.
        untried: The stage before, whose failure makes this one useless.
    """

    facts: Mapping[str, Any]
    failure: str | None = None
    module: str | None = None
    place: str | None = None
    died: bool = False
    untried: str | None = None


def run_trials(stages: Sequence[str], time_limit: float) -> dict[str, Trial]:
    """Try stages in their order, in as few processes as crash.

    Args:
        stages: Keys of `probe.STAGES` or names of modules.
        time_limit: Seconds for each.
    """
    trials: dict[str, Trial] = {}
    while left := [stage for stage in stages if stage not in trials]:
        blocked = {stage: cause for stage in left if (cause := _cause(stage, trials))}
        if blocked:
            trials |= {stage: Trial(facts={}, untried=cause) for stage, cause in blocked.items()}
        else:
            trials |= _one_process(left, time_limit)
    return trials


def _cause(stage: str, trials: Mapping[str, Trial]) -> str | None:
    """The stage that keeps another from being of any use."""
    for before in _NEEDS.get(stage, ()):
        if before in trials and (trials[before].failure or trials[before].untried):
            return trials[before].untried or before
    return next((one for one in _TRIES_TO_IMPORT.get(stage, ()) if one in trials and trials[one].died), None)


def _one_process(stages: Sequence[str], time_limit: float) -> dict[str, Trial]:
    """Answers up to the first failure; if the process died, the stage that it was at is the one that failed."""
    command = [sys.executable, str(_PROBE), f"{time_limit:g}", *stages]
    # Only what the environment itself offers: the folder of the probe, whose files bear names, is none of it.
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            timeout=time_limit * len(stages) + 5,
        )
        output, errors, status = done.stdout, done.stderr, done.returncode
    except subprocess.TimeoutExpired as expired:
        output, errors, status = expired.stdout or b"", expired.stderr or b"", None
    trials = {}
    for line in output.decode().splitlines():
        answer = json.loads(line)
        trials[answer["stage"]] = _trial(answer)
    if len(trials) < len(stages) and not any(trial.failure for trial in trials.values()):
        words, place = _death(errors.decode(errors="replace"), status, time_limit)
        stage = next(one for one in stages if one not in trials)
        trials[stage] = Trial(facts={}, failure=words, place=place, died=True)
    return trials


def _trial(answer: Mapping[str, Any]) -> Trial:
    failure = answer.get("failure")
    if failure is None:
        return Trial(facts=answer["facts"])
    return Trial(facts={}, failure=failure["said"], module=failure["module"], place=failure["place"])


def _death(errors: str, status: int | None, time_limit: float) -> tuple[str, str | None]:
    """What ended a process without an answer, and where it was."""
    frames = [(file, line) for file, line in _FRAME.findall(errors) if "importlib" not in file and file != str(_PROBE)]
    place = f"{frames[0][0]}, line {frames[0][1]}" if frames else None
    if status is None or "Timeout (" in errors:
        return f"does not end within {time_limit:g} s", place
    if status < 0:
        return f"crashes ({signal.Signals(-status).name})", place
    lines = [line for line in errors.splitlines() if line.strip()]
    return f"ends the process with status {status}{': ' + lines[-1] if lines and not frames else ''}", place
