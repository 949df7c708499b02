"""Ranks that share a batch (`--gp-gpus`) predict what one rank predicts; their gradients add up to its gradients."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from helpers.ranks import run_on_ranks
from helpers.shared_batches import CASES, SETS, dropped_structures, in_groups, refusals, results

pytestmark = pytest.mark.cluster

TOLERANCE = 1e-12
"""Of float64 numbers, relative to the largest entry of a tensor or to 1; sums have another order, nothing else."""
MIXED = "mixed periodicity, some without edges"
FEW_ATOMS = ["flat, one atom", "flat, no edges", "flat, two atoms", "all heads, one atom"]
PLANS = {
    4: [(2, list(CASES)), (4, [*FEW_ATOMS, f"all heads, {MIXED}"])],
    3: [(3, [*FEW_ATOMS, f"all heads, {MIXED}", "edges made again, in parts"])],
}


@functools.cache
def of_one_rank(name: str) -> Mapping[str, Tensor]:
    return results(CASES[name], torch.device("cpu"))


@pytest.mark.filterwarnings("ignore:.torch.cpu.amp.autocast:FutureWarning")  # torch 2.4's own checkpoint
@pytest.mark.parametrize("ranks", PLANS)
def test_outputs_and_gradients_are_those_of_one_rank(ranks: int) -> None:
    worst = 0.0
    for of_rank in run_on_ranks(ranks, in_groups, PLANS[ranks]):
        for (size, names), found in zip(PLANS[ranks], of_rank, strict=True):
            for name in names:
                expected = of_one_rank(name)
                assert list(found[name]) == list(expected)
                for key, value in expected.items():
                    scale = max(1.0, float(value.abs().max()))
                    deviation = float((found[name][key] - value).abs().max()) / scale
                    assert deviation < TOLERANCE, f"groups of {size}: {name}: {key}: {deviation}"
                    worst = max(worst, deviation)
    print(f"{ranks} ranks: largest deviation {worst:.1e}")


def test_a_group_drops_whole_structures_and_groups_drop_different_ones() -> None:
    first, second, third, fourth = run_on_ranks(4, dropped_structures, 2)
    owner = torch.arange(len(SETS[MIXED])).repeat_interleave(torch.tensor([len(atoms) for atoms in SETS[MIXED]]))
    assert torch.equal(first, second)
    assert torch.equal(third, fourth)
    assert not torch.equal(first, third)
    for kept in (first, third):
        assert all(len(kept[owner == structure].unique()) == 1 for structure in owner.unique())


def test_what_records_a_model_is_refused() -> None:
    for said in run_on_ranks(2, refusals, 2)[0]:
        assert "records a model without the messages that --gp-gpus sends" in said
