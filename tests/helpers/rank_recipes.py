"""Small runs of recipes on the ranks of a process group."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch.distributed as dist
from torch import Tensor

from helpers.rank_training import train
from helpers.shared_batches import groups_of
from helpers.small_runs import trainer_of


def train_recipes(
    names: Sequence[str], sets: dict[str, Path], folder: Path, group: int | None
) -> dict[str, tuple[list[float], dict[str, Tensor]]]:
    """Losses of all batches and the weights in the end, by run file, in groups that share batches or without."""
    left = {}
    with nullcontext() if group is None else groups_of(group):
        for name in names:
            on_cpu = dist.get_backend() == "gloo"
            trained = train(trainer_of(name, sets, folder / name, cpu=on_cpu, local_rank=dist.get_rank()))
            left[name] = trained.losses, trained.weights
    return left
