"""Trainers in this process, without launcher or distributed set-up."""

import copy
from pathlib import Path
from typing import Any

import torch
from fairchem.core.common.registry import registry
from torch import Tensor

from ev2_plugin.integration.host_classes import only_needed_imports
from ev2_plugin.integration.trainer import Trainer
from helpers import tiny_s2ef


def make_trainer(
    config: dict[str, Any], folder: Path, *, amp: bool = False, seed: int = 0, cpu: bool = True, local_rank: int = 0
) -> Trainer:
    """Build the trainer of a config, as the host's context does.

    Args:
        config: As `tiny_s2ef.config` returns it.
        folder: For checkpoints, results and logs.
        amp: The flag.
        seed: The flag.
        cpu: The flag.
        local_rank: Which GPU to use where there are some.
    """
    config = copy.deepcopy(config)
    with only_needed_imports(config):
        return registry.get_trainer_class(config["trainer"])(
            task=config["task"],
            model=config["model"],
            outputs=config["outputs"],
            dataset=config["dataset"],
            optimizer=config["optim"],
            loss_functions=config["loss_functions"],
            evaluation_metrics=config["evaluation_metrics"],
            identifier="test",
            timestamp_id="test",
            run_dir=str(folder),
            print_every=1,
            seed=seed,
            logger="tensorboard",
            local_rank=local_rank,
            amp=amp,
            cpu=cpu,
            name="ocp",
        )


def config(dataset: dict[str, Any], model: dict[str, Any] = tiny_s2ef.FLAT_MODEL, **optim: Any) -> dict[str, Any]:
    """Return the config of a run of two epochs of two batches; `optim` replaces what is there."""
    made = tiny_s2ef.config(copy.deepcopy(dataset), model, "ev2_plugin.Trainer")
    del made["dataset"]["test"], made["dataset"]["relax"]
    made["optim"] = {**made["optim"], "load_balancing": None, "max_epochs": 2, "eval_every": 4, **optim}
    return made


def weights(trainer: Any) -> dict[str, Tensor]:
    """Return a copy of the model's weights."""
    return {name: value.clone() for name, value in trainer._unwrapped_model.state_dict().items()}


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor], **tolerances: float) -> None:
    """Compare weights by name."""
    assert list(first) == list(second)
    for name in first:
        torch.testing.assert_close(first[name], second[name], msg=lambda m, name=name: f"{name}: {m}", **tolerances)
