"""Small trainings handed to the tests' cluster, followed while they run, and compared when they have ended."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ev2_plugin.integration import launcher
from helpers import tiny_s2ef
from helpers.slurm_cluster import SlurmCluster

EPOCHS = 10
STEPS = EPOCHS * tiny_s2ef.NUM_STRUCTURES
PATIENCE = 600.0


def wait_for(condition: Callable[[], Any], what: Callable[[], str]) -> Any:
    """Return what is true at last."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {PATIENCE:.0f} s: {what()}")
        time.sleep(0.1)
    return found


def write_run(folder: Path, slurm: dict[str, Any] | None = None, **optim: Any) -> Path:
    """Write data and a config with everything that a resumed run could get wrong: dropout, averages, a schedule."""
    model = {**tiny_s2ef.FLAT_MODEL, "alpha_drop": 0.1, "drop_path_rate": 0.1}
    config = tiny_s2ef.config(
        tiny_s2ef.write_dataset("lmdb", folder / "data"), model, "helpers.recording_trainer.RecordingTrainer"
    )
    del config["dataset"]["test"], config["dataset"]["relax"], config["optim"]["load_balancing"]
    config["optim"] |= {"batch_size": 1, "max_epochs": EPOCHS, "eval_every": 8, "checkpoint_every": 5, **optim}
    config["slurm"] = slurm or {}
    return tiny_s2ef.write_config(folder / "run.yml", config)


@dataclass(frozen=True)
class SubmittedRun:
    """A run and its job.

    Attributes:
        folder: Of the run: data, logs, checkpoints.
        name: The run's timestamp id.
        job: SLURM's number, `11_0` for the first of an array.
    """

    cluster: SlurmCluster
    folder: Path
    name: str
    job: str

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints" / self.name

    def samples(self, rank: int = 0) -> list[dict[str, Any]]:
        """What the run has trained on so far, in order; steps that were repeated come twice."""
        path = self.folder / "results" / self.name / f"samples.{rank}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def log(self) -> str:
        """All output of the job."""
        return "\n".join(path.read_text() for path in sorted((self.folder / "logs" / self.job).glob("*_log.*")))

    def _told(self) -> str:
        return f"{self.cluster.job(self.job)}\n{self.log()[-6000:]}"

    def wait_for_step(self, step: int) -> None:
        """Wait until a step has begun."""

        def begun() -> bool:
            if self.cluster.state(self.job) in ("FAILED", "COMPLETED", "CANCELLED"):
                raise AssertionError(f"ended before step {step}: {self._told()}")
            return any(one["step"] >= step for one in self.samples())

        wait_for(begun, self._told)

    def wait_for_end(self) -> str:
        """Wait until the job is over, its restarts included; return its state."""
        over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        return wait_for(lambda: (state := self.cluster.state(self.job)) in over and state, self._told)

    def check_success(self) -> None:
        """Wait for the end, which must be a good one."""
        assert self.wait_for_end() == "COMPLETED", self._told()
        for path in (self.folder / "logs" / self.job).glob("*_result.pkl"):
            assert pickle.loads(path.read_bytes())[0] == "success", self._told()

    @property
    def restarts(self) -> int:
        """How often the job has been queued again."""
        return int(self.cluster.job(self.job)["Restarts"])

    def final(self, name: str = "checkpoint.pt") -> dict[str, Any]:
        """The last checkpoint, or another."""
        return torch.load(self.checkpoints / name, map_location="cpu", weights_only=False)


def submit(cluster: SlurmCluster, folder: Path, *arguments: str) -> list[SubmittedRun]:
    """Run `ev2 fairchem --submit` in this process, whose environment must be that of the cluster."""
    before = set(folder.glob("logs/exp/*"))
    flags = ["--mode", "train", "--config-yml", str(folder / "run.yml"), "--run-dir", str(folder)]
    launcher.main([*flags, "--logdir", str(folder / "logs"), "--submit", "--slurm-mem", "1", *arguments])
    (log,) = set(folder.glob("logs/exp/*")) - before
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    return [SubmittedRun(cluster, folder, one["config"]["timestamp_id"], one["slurm_id"]) for one in entries]


def assert_same_tensors(found: Any, expected: Any, where: str = "") -> None:
    """Compare nested values to the last bit."""
    if isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), where
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key, value in expected.items():
            assert_same_tensors(found[key], value, f"{where}.{key}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), where
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_same_tensors(one, other, f"{where}.{index}")
    else:
        assert found == expected, where


def check_same_as(run: SubmittedRun, undisturbed: SubmittedRun, ranks: int = 1) -> None:
    """What a disturbed run has come to: steps, samples in order, losses, weights, averages, schedule, metrics."""
    for rank in range(ranks):
        expected = undisturbed.samples(rank)
        assert [one["step"] for one in expected] == list(range(1, len(expected) + 1))
        found = run.samples(rank)
        assert found[-1] == expected[-1]
        assert all(one == expected[one["step"] - 1] for one in found)
        assert {one["step"] for one in found} == {one["step"] for one in expected}
    mine, theirs = run.final(), undisturbed.final()
    for part in ("step", "epoch", "state_dict", "ema", "optimizer", "scheduler", "best_val_metric"):
        assert_same_tensors(mine[part], theirs[part], part)
    best, expected_best = run.final("best_checkpoint.pt"), undisturbed.final("best_checkpoint.pt")
    for part in ("state_dict", "val_metrics"):
        assert_same_tensors(best[part], expected_best[part], part)
