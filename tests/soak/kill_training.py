"""Kill a training at random moments, start it again with the same command, and compare its end with an undisturbed run.

    python tests/soak/kill_training.py [--kills 30] [--seed 0] [--folder FOLDER]

It ends with status 0 if every bit of the two last checkpoints agrees, the samples and losses of every step do, and no
start needed anything but the command. Imports happen once: each start is a fork.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import ev2_plugin.integration.launcher  # what commands import, once
from ev2_plugin.storage.checkpoint_file import read_checkpoint
from helpers import tiny_s2ef
from helpers.kill_and_restart import ended, start

_ = ev2_plugin.integration.launcher
STEPS = 900
WHOLE, KILLED = "whole", "killed"


def write_run(folder: Path) -> None:
    """Nine hundred steps with dropout, saved every seventh, validated every fortieth."""
    dataset = tiny_s2ef.write_dataset("lmdb", folder / "data")
    model = {**tiny_s2ef.FLAT_MODEL, "alpha_drop": 0.2, "drop_path_rate": 0.2}
    content = tiny_s2ef.config(dataset, model, "helpers.recording_trainer.RecordingTrainer")
    content["optim"] |= {"batch_size": 1, "max_epochs": STEPS // 4, "eval_every": 40, "checkpoint_every": 7}
    tiny_s2ef.write_config(folder / "run.yml", content)


def command(name: str) -> list[str]:
    """The same command for every start of a run."""
    flags = ["--mode", "train", "--config-yml", "run.yml", "--cpu", "--print-every", "1000", "--timestamp-id", name]
    return ["fairchem", *flags]


def wait(process: int) -> int:
    """Exit status of a process that ends by itself."""
    while (status := ended(process)) is None:
        time.sleep(0.02)
    return status


def records(name: str) -> list[dict[str, Any]]:
    """What a run has trained on, in the order of time; a line that a kill cut off is left out."""
    path = Path("results") / name / "samples.0.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def phase(name: str, before: int) -> str:
    """What a run was doing when it was killed."""
    folder = Path("checkpoints") / name
    if any(folder.glob(".*.partial")) or any(folder.glob(".*.link")):
        return "writing a checkpoint"
    return "starting" if len(records(name)) == before else "training or validating"


def kill_and_restart(kills: int, rng: random.Random, start_up: float) -> Counter[str]:
    """Start the run until it ends by itself, killing it that many times before: while it starts and soon after.

    Returns:
        How often it was killed in which phase.
    """
    phases: Counter[str] = Counter()
    while True:
        before = len(records(KILLED))
        process, until = start(command(KILLED)), time.monotonic() + rng.uniform(0.6 * start_up, start_up + 2.0)
        while (status := ended(process)) is None:
            if phases.total() < kills and time.monotonic() > until:
                os.kill(process, signal.SIGKILL)
            time.sleep(0.001)
        if status != -signal.SIGKILL:
            if status:
                raise SystemExit(f"a start ended with status {status} after {phases.total()} kills")
            return phases
        phases[phase(KILLED, before)] += 1


def differences(one: Any, other: Any, where: str) -> list[str]:
    """Places where two contents are not equal to the last bit."""
    if isinstance(one, torch.Tensor):
        return [] if torch.equal(one, other) else [where]
    if isinstance(one, dict):
        keys = [where] if list(one) != list(other) else []
        return keys + [place for key in one for place in differences(one[key], other.get(key), f"{where}.{key}")]
    if isinstance(one, list | tuple):
        pairs = enumerate(zip(one, other, strict=True))
        return [place for number, pair in pairs for place in differences(*pair, f"{where}[{number}]")]
    return [] if one == other else [where]


def content(name: str, file: str) -> dict[str, Any]:
    """A run's checkpoint without what is of the run's name and not of its training."""
    found = read_checkpoint(Path("checkpoints") / name / file)
    found["config"].pop("cmd")
    for state in found.get("random", []):
        state.pop("python")  # libraries draw names of temporary files from it
    return found


def order_differences() -> list[str]:
    """Steps whose samples or losses are not those of the undisturbed run, repeated ones included."""
    expected = {record["step"]: record for record in records(WHOLE)}
    found = records(KILLED)
    wrong = [f"step {record['step']}" for record in found if record != expected.get(record["step"])]
    return wrong + [f"step {step} left out" for step in expected.keys() - {record["step"] for record in found}]


def main() -> None:
    """Run both, compare, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="ev2-soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    write_run(Path())
    torch.set_num_threads(1)

    begun, process = time.monotonic(), start(command(WHOLE))
    while not records(WHOLE) and ended(process) is None:
        time.sleep(0.01)
    start_up = time.monotonic() - begun
    if status := wait(process):
        raise SystemExit(f"the undisturbed run ended with status {status}")
    alone = time.monotonic() - begun
    begun = time.monotonic()
    phases = kill_and_restart(arguments.kills, random.Random(arguments.seed), start_up)
    disturbed = time.monotonic() - begun

    wrong = [
        *differences(content(WHOLE, "checkpoint.pt"), content(KILLED, "checkpoint.pt"), "checkpoint.pt"),
        *differences(content(WHOLE, "best_checkpoint.pt"), content(KILLED, "best_checkpoint.pt"), "best_checkpoint.pt"),
        *order_differences(),
    ]
    repeated = len(records(KILLED)) - STEPS
    report = {
        "kills": phases.total(),
        "killed while": dict(phases),
        "steps": STEPS,
        "steps repeated": repeated,
        "seconds undisturbed": round(alone, 1),
        "seconds with kills": round(disturbed, 1),
        "differences": wrong,
    }
    print(yaml.safe_dump(report, sort_keys=False))
    if wrong or phases.total() < arguments.kills:
        raise SystemExit("the run that was killed does not end as the other, or ended before the last kill")


if __name__ == "__main__":
    main()
