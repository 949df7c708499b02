"""Ctrl-C and a friendly kill end a run after a whole step, saved; started again it goes on to the same end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ev2_plugin.storage.checkpoint_file import read_checkpoint
from helpers import tiny_s2ef

pytestmark = pytest.mark.cluster

MODEL = {**tiny_s2ef.FLAT_MODEL, "alpha_drop": 0.2, "drop_path_rate": 0.2}
PATIENCE = 300.0
SAME = ("step", "epoch", "validated_step", "state_dict", "ema", "optimizer", "scheduler", "best_val_metric")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    dataset = tiny_s2ef.write_dataset("lmdb", folder / "data")
    content = tiny_s2ef.config(dataset, MODEL, "ev2_plugin.Trainer")
    content["optim"] |= {"batch_size": 1, "max_epochs": 60, "eval_every": 40, "checkpoint_every": 30, "num_workers": 1}
    (folder / "run.yml").write_text(yaml.safe_dump(content))
    return folder


def start(folder: Path, ranks: int, name: str) -> subprocess.Popen[str]:
    """A run in a process group of its own, as a shell starts one."""
    command = ["fairchem", "--mode", "train", "--config-yml", "run.yml", "--cpu", "--num-gpus", str(ranks)]
    return subprocess.Popen(
        [sys.executable, "-m", "ev2_plugin", *command, "--timestamp-id", name, "--print-every", "1"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """What a run says until it says this."""
    assert process.stdout is not None
    seen, deadline = "", time.monotonic() + PATIENCE
    for line in process.stdout:
        seen += line
        if text in line:
            return seen
        if time.monotonic() > deadline:
            break
    return pytest.fail(f"waited for {text!r}; the run said:\n{seen}")


def end(process: subprocess.Popen[str], code: int) -> str:
    """What a run still says until it ends, with this exit code."""
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, output
    return output


def newest(folder: Path, name: str) -> dict[str, Any]:
    return read_checkpoint(folder / "checkpoints" / name / "checkpoint.pt")


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return all(map(same, one, other))
    return bool(one == other)


@pytest.fixture(scope="module", params=[1, 2])
def undisturbed(request: pytest.FixtureRequest, folder: Path) -> tuple[int, dict[str, Any]]:
    """How many ranks, and the last checkpoint of a run that nobody stops."""
    end(start(folder, request.param, f"whole{request.param}"), 0)
    return request.param, newest(folder, f"whole{request.param}")


@pytest.mark.parametrize(
    ("sent", "to_all", "code"),
    [(signal.SIGINT, True, 130), (signal.SIGTERM, False, 143)],
    ids=["ctrl-c", "kill"],
)
def test_a_stopped_run_is_saved_and_goes_on_to_the_same_end(
    sent: signal.Signals, to_all: bool, code: int, undisturbed: tuple[int, dict[str, Any]], folder: Path
) -> None:
    ranks, expected = undisturbed
    name = f"{sent.name}{ranks}"
    process = start(folder, ranks, name)
    read_until(process, "step: 1.00e+01")
    (os.killpg if to_all else os.kill)(process.pid, sent)
    said = end(process, code)
    assert "Traceback" not in said
    assert f"--timestamp-id {name}" in said
    stopped = newest(folder, name)
    assert 10 <= stopped["step"] < expected["step"]
    assert f"step {stopped['step']}" in end(start(folder, ranks, name), 0)
    found = newest(folder, name)
    for key in SAME:
        assert same(found[key], expected[key]), key
