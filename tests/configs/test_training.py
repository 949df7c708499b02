"""Every run file, with fewer channels, takes two optimiser steps on four samples; relaxations follow their training."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ev2_plugin.integration.launcher import main
from ev2_plugin.integration.run_config import load_config
from helpers.run_files import CONFIGS, RUN_FILES
from helpers.small_runs import (
    BATCH,
    EPOCHS,
    GLOBAL_BATCH,
    SMALL_RUN,
    precision,
    set_of,
    small_model,
    sources,
    write_sets,
)
from helpers.tiny_sets import NUM_SAMPLES

pytestmark = pytest.mark.usefixtures("restored_process_state")

STEPS = NUM_SAMPLES // GLOBAL_BATCH * EPOCHS
FIRST_SCALE = 65536.0  # of torch.GradScaler
TRAINING = [name for name in RUN_FILES if "/relax_" not in name]
TRAINING_OF = {
    "oc20/relax_is2re_31M": "oc20/s2ef_all_md_31M_energy_4",
    "oc20/relax_is2re_153M": "oc20/s2ef_all_md_153M_energy_4",
    "oc20/relax_adsorbml_31M": "oc20/s2ef_all_md_31M_energy_4",
    "oc20/relax_adsorbml_153M": "oc20/s2ef_all_md_153M_energy_4",
    "oc22/relax_is2re_total_121M": "oc22/s2ef_total_121M_energy_1_force_1",
}


@dataclass(frozen=True)
class Trained:
    """What a run left.

    Attributes:
        config: The run file.
        checkpoint: Path of checkpoint.pt.
        state: Its content.
    """

    config: dict[str, Any]
    checkpoint: Path
    state: dict[str, Any]


def start(name: str, folder: Path, mode: str, overrides: dict[str, Any], *arguments: str) -> None:
    flags = ["--mode", mode, "--cpu", "--config-yml", str(RUN_FILES[name]), "--run-dir", str(folder)]
    main([*flags, *arguments, *(f"--{key}={value}" for key, value in overrides.items())])


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Sources of the small data sets."""
    return write_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="module")
def trained(sets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    """Train a run file, once, and return what it left."""

    @functools.cache
    def train(name: str) -> Trained:
        folder, config = tmp_path_factory.mktemp("run"), load_config(RUN_FILES[name])[0]
        small = SMALL_RUN | precision(name) | small_model(config["model"])
        start(name, folder, "train", small | sources(sets[set_of(name)]))
        (checkpoint,) = folder.glob("checkpoints/*/checkpoint.pt")
        assert (checkpoint.parent / "best_checkpoint.pt").is_file()
        return Trained(config, checkpoint, torch.load(checkpoint, map_location="cpu", weights_only=False))

    return train


@pytest.mark.parametrize("name", TRAINING)
def test_two_steps(name: str, trained: Callable[[str], Trained]) -> None:
    run = trained(name)
    optim, state = run.config["optim"], run.state
    assert state["step"] == STEPS * GLOBAL_BATCH // BATCH
    assert {int(entry["step"]) for entry in state["optimizer"]["state"].values()} == {STEPS}
    assert all(torch.isfinite(value).all() for value in state["state_dict"].values())
    groups = state["optimizer"]["param_groups"]
    assert len(state["optimizer"]["state"]) == sum(len(group["params"]) for group in groups)  # every head has a loss
    assert {group["weight_decay"] for group in groups} == {0, optim["optimizer_params"]["weight_decay"]}
    assert {group["initial_lr"] for group in groups} == {optim["lr_initial"]}
    assert (state["ema"] is not None) == (optim.get("ema_decay") is not None)
    assert (state["amp"] is not None) == (optim["precision"] == "fp16" and not precision(name))
    transforms = run.config["dataset"]["train"]["transforms"]
    assert set(state["elementrefs"]) == set(transforms.get("element_references", {}))
    assert set(state["normalizers"]) == set(normalised(transforms.get("normalizer", {})))


def normalised(normalizer: dict[str, Any]) -> list[str]:
    """Targets with a normaliser, given or fitted."""
    return [*normalizer.get("fit", {}).get("targets", []), *(target for target in normalizer if target != "fit")]


def test_fp16_finds_the_scale_of_its_gradients(sets: dict[str, Path], tmp_path: Path) -> None:
    name = "oc20/s2ef_2M_83M"
    config = load_config(RUN_FILES[name])[0]
    assert config["optim"]["precision"] == "fp16"
    overrides = SMALL_RUN | small_model(config["model"]) | sources(sets["s2ef"]) | {"optim.max_epochs": 5}
    start(name, tmp_path, "train", overrides)
    (checkpoint,) = tmp_path.glob("checkpoints/*/checkpoint.pt")
    state = torch.load(checkpoint, map_location="cpu", weights_only=False)
    taken = {int(entry["step"]) for entry in state["optimizer"]["state"].values()}
    halved = round(np.log2(FIRST_SCALE / state["amp"]["scale"]))
    assert halved > 0
    assert taken == {5 - halved}


@pytest.mark.parametrize("name", TRAINING_OF)
def test_relaxations_follow_their_training(
    name: str, trained: Callable[[str], Trained], sets: dict[str, Path], tmp_path: Path
) -> None:
    run = trained(TRAINING_OF[name])
    source = sources(sets[set_of(TRAINING_OF[name])])
    source["dataset.relax.src"] = sets["oc22_is2re" if name.startswith("oc22") else "is2re"]
    small = SMALL_RUN | precision(TRAINING_OF[name]) | small_model(run.config["model"]) | {"task.relaxation_steps": 2}
    start(name, tmp_path, "run-relaxations", small | source, "--checkpoint", str(run.checkpoint))
    (results,) = tmp_path.glob("results/*/relaxed_positions.npz")
    with np.load(results) as relaxed:
        assert len(relaxed["ids"]) == NUM_SAMPLES
        assert np.isfinite(relaxed["pos"]).all()


def test_every_run_file_is_run() -> None:
    assert set(TRAINING) | set(TRAINING_OF) == set(RUN_FILES)
    assert all(path.is_relative_to(CONFIGS) for path in RUN_FILES.values())
