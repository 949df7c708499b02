"""No run file leaves a parameter without a gradient, for which DistributedDataParallel would wait for ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.rank_recipes import train_recipes
from helpers.ranks import run_on_ranks
from helpers.run_files import RUN_FILES
from helpers.small_runs import trainer_of, write_sets

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("restored_process_state")]

TRAINING = [name for name in RUN_FILES if "/relax_" not in name]
KINDS = [
    "oc20/s2ef_2M_83M",
    "oc20/is2re_36M",
    "oc20/is2re_95M_noisy_nodes",
    "oc22/s2ef_total_121M_energy_4_force_100",
    "qm9/U0",
    "qm9/U0_noisy_nodes",
]
"""One of each kind of recipe."""


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_sets(tmp_path_factory.mktemp("sets"))


def without_edges(batch: Any) -> Any:
    """The same structures with a kilometre between their atoms."""
    batch.pos = torch.arange(len(batch.pos), dtype=batch.pos.dtype).unsqueeze(1) * torch.tensor([[1e3, 0, 0]])
    if "pos_relaxed" in batch:
        batch.pos_relaxed = batch.pos.clone()
    batch.pbc = torch.zeros(len(batch.natoms), 3, dtype=torch.bool)
    return batch


@pytest.mark.parametrize("name", TRAINING)
def test_every_parameter_gets_a_gradient_from_every_batch(name: str, sets: dict[str, Path], tmp_path: Path) -> None:
    trainer = trainer_of(name, sets, tmp_path)
    for change in (lambda batch: batch, without_edges):
        trainer.model.zero_grad(set_to_none=True)
        trainer.model.train()
        batch = change(next(iter(trainer.train_loader)))
        loss = trainer._compute_loss(trainer._forward(batch), batch)
        assert loss.isfinite()
        loss.backward()
        gradients = {name: one.grad for name, one in trainer.model.named_parameters() if one.requires_grad}
        assert not [name for name, gradient in gradients.items() if gradient is None]
        assert all(gradient.isfinite().all() for gradient in gradients.values())


@pytest.mark.parametrize("group", [None, 2])
def test_every_kind_of_recipe_trains_on_two_ranks(group: int | None, sets: dict[str, Path], tmp_path: Path) -> None:
    first, second = run_on_ranks(2, train_recipes, KINDS, sets, tmp_path, group)
    for name in KINDS:
        (losses, weights), (others_losses, others_weights) = first[name], second[name]
        assert len(losses) == (2 if group is None else 4)
        assert all(torch.equal(others_weights[key], value) for key, value in weights.items())
        assert torch.tensor([*losses, *others_losses]).isfinite().all()
        assert (losses == others_losses) == (group is not None)
