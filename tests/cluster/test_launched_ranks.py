"""`ev2 fairchem --gp-gpus 2` beside the same command on one rank, through the launcher, in single precision."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ev2_plugin.integration import launcher
from helpers import tiny_s2ef, trainers

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("restored_process_state")]

SHARED = ["--num-gpus", "2", "--gp-gpus", "2"]
STEPS = 20


def test_twenty_steps_and_predictions_of_two_ranks_that_share_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dataset = tiny_s2ef.write_dataset("lmdb", tmp_path / "data")
    config = trainers.config(
        dataset, batch_size=4, eval_batch_size=3, max_epochs=STEPS, eval_every=STEPS,
        optimizer="SGD", optimizer_params={"momentum": 0.9}, lr_initial=1e-3,
    )  # fmt: skip
    config["dataset"]["test"] = dict(dataset)
    tiny_s2ef.write_config(Path("run.yml"), config)
    start("train", "one")
    start("train", "two", *SHARED)
    one, two = (read(run) for run in ("one", "two"))
    assert one["step"] == two["step"] == STEPS
    largest = max(float((two["state_dict"][name] - value).abs().max()) for name, value in one["state_dict"].items())
    print(f"20 steps of SGD in float32: largest deviation of a weight {largest:.1e}")
    assert largest < 1e-5
    for mine, theirs in zip(one["ema"]["shadow_params"], two["ema"]["shadow_params"], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5)

    checkpoint = ("--checkpoint", "checkpoints/one/checkpoint.pt")
    start("predict", "alone", *checkpoint)
    start("predict", "together", *checkpoint, *SHARED)
    with np.load(predictions("alone")) as alone, np.load(predictions("together")) as together:
        assert list(alone) == list(together)
        assert alone["ids"].tolist() == together["ids"].tolist()
        assert len(alone["ids"]) == tiny_s2ef.NUM_STRUCTURES
        for name in ("energy", "forces"):
            np.testing.assert_allclose(together[name], alone[name], rtol=1e-4, atol=1e-4)


def start(mode: str, run: str, *arguments: str) -> None:
    launcher.main(["--mode", mode, "--config-yml", "run.yml", "--cpu", "--timestamp-id", run, *arguments])


def read(run: str) -> dict[str, Any]:
    return torch.load(f"checkpoints/{run}/checkpoint.pt", weights_only=False)


def predictions(run: str) -> Path:
    (path,) = Path("results", run).glob("*predictions.npz")
    return path
