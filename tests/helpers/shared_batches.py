"""Models on ranks that share their batches, and what they are compared with: the same on one process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from ase import Atoms
from fairchem.core.common import gp_utils
from fairchem.core.models.base import HydraModel
from torch import Tensor, nn

from ev2_plugin.integration.backbone import EquiformerV2, EquiformerV2Backbone
from ev2_plugin.integration.config import HostOptions
from ev2_plugin.integration.rank_groups import share_in_group
from ev2_plugin.integration.reading import read_batch
from ev2_plugin.model.config import ModelConfig
from ev2_plugin.nn.stochastic_depth import GraphStochasticDepth
from helpers import ranks
from helpers.models import fill_by_name
from helpers.settings import settings_of
from helpers.structures import TINY, assorted, crystal, host_batch, molecule, single_atom, slab, two_far_atoms, wire

HEADS = {
    "energy": {"module": "ev2_plugin.EnergyHead"},
    "mean_energy": {"module": "ev2_plugin.EnergyHead", "output_name": "mean_energy", "reduce": "mean"},
    "forces": {"module": "ev2_plugin.ForceHead"},
    "stress": {"module": "ev2_plugin.StressHead", "decompose": True, "use_source_target_embedding": True},
    "whole_stress": {"module": "ev2_plugin.StressHead", "output_name": "whole_stress", "edge_level_mlp": True},
}
"""Every head, and both forms of those that have two."""

SETS: dict[str, list[Atoms]] = {
    "mixed periodicity, some without edges": assorted(),
    "slab": [slab()],
    "one atom": [single_atom()],
    "no edges": [two_far_atoms(), single_atom()],
    "two atoms": [wire()],
    "molecule and crystal": [molecule(), crystal()],
}


@dataclass(frozen=True)
class Case:
    """A model and a set of structures.

    Attributes:
        structures: Name in `SETS`.
        config: The network.
        hydra: Backbone and all heads; energy and forces in one module otherwise.
        max_edges: Edges whose features may exist together; None for the config's.
        options: Keys of the model section besides the network's.
    """

    structures: str
    config: ModelConfig = TINY
    hydra: bool = False
    max_edges: int | None = None
    options: tuple[tuple[str, Any], ...] = ()


CASES = {
    **{f"flat, {name}": Case(name) for name in SETS},
    **{f"all heads, {name}": Case(name, hydra=True) for name in ("mixed periodicity, some without edges", "one atom")},
    "edges made again, in parts": Case("slab", replace(TINY, activation_checkpoint="edges"), max_edges=7),
    "blocks made again": Case("molecule and crystal", replace(TINY, activation_checkpoint="block")),
    "reference backend": Case("molecule and crystal", replace(TINY, backend="reference")),
    "seeded gauge, S2 activation": Case("slab", replace(TINY, use_grid_mlp=False), options=(("gauge_seed", 3),)),
    "learnable basis, shared tables": Case(
        "two atoms",
        replace(TINY, distance_function="learnable_gaussian", share_atom_edge_embedding=True, use_m_share_rad=True),
    ),
}


@contextmanager
def groups_of(size: int) -> Iterator[None]:
    """The host's groups of `--gp-gpus`."""
    gp_utils.setup_gp({"gp_gpus": size, "distributed_backend": dist.get_backend()})
    try:
        yield
    finally:
        dist.barrier()
        gp_utils.cleanup_gp()


def build(case: Case) -> nn.Module:
    """The model of a case, in float64, far from its initialisation."""
    settings: dict[str, Any] = settings_of(case.config) | dict(case.options)
    if case.hydra:
        backbone = {"model": "ev2_plugin.EquiformerV2Backbone", **settings}
        model: nn.Module = HydraModel(backbone=backbone, heads=HEADS, otf_graph=True, pass_through_head_outputs=True)
    else:
        model = EquiformerV2(**settings)
    if case.max_edges is not None:
        network: Any = model.backbone if case.hydra else model
        network.edges_within_memory = lambda dtype: case.max_edges
    return fill_by_name(model).double()


def results(case: Case, device: torch.device) -> dict[str, Tensor]:
    """Predictions without and with gradients, and the gradient of every parameter."""
    model, batch = build(case).to(device), host_batch(SETS[case.structures], torch.float64).to(device)
    with torch.no_grad():
        inferred = build(case).to(device).eval()(batch)
    trained = model.train()(batch)
    loss = sum(output.sin().sum() for output in trained.values())
    loss.backward()
    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not missing, missing
    return {
        **{f"inferred {name}": value for name, value in inferred.items()},
        **{f"trained {name}": value.detach() for name, value in trained.items()},
        **{f"gradient {name}": parameter.grad for name, parameter in model.named_parameters()},
    }


def shared_results(names: Sequence[str], size: int) -> dict[str, Mapping[str, Tensor]]:
    """Results of this rank, in groups of `size`; gradients are those that DistributedDataParallel would give."""
    found = {}
    with groups_of(size):
        for name in names:
            found[name] = results(CASES[name], ranks.device())
            for key, value in found[name].items():
                if key.startswith("gradient"):
                    dist.all_reduce(value)
                    value /= dist.get_world_size()
                found[name][key] = value.cpu()
    return found


def in_groups(plan: Sequence[tuple[int, Sequence[str]]]) -> list[dict[str, Mapping[str, Tensor]]]:
    """Results of cases in groups of several sizes, one after the other."""
    return [shared_results(names, size) for size, names in plan]


def dropped_structures(size: int) -> Tensor:
    """Which structures lose a branch, seen from every atom of a batch whose ranks draw different numbers."""
    torch.manual_seed(dist.get_rank())
    with groups_of(size):
        whole = read_batch(host_batch(assorted()), TINY, HostOptions(), torch.float64)
        atoms, _ = share_in_group(whole, None)
        ones = torch.ones(len(atoms.batch), 1, 1, dtype=torch.float64)
        kept = GraphStochasticDepth(0.5)(ones, atoms.batch, atoms.num_graphs, atoms.share)
        return atoms.share.gather(kept).flatten() != 0


def refusals(size: int) -> list[str]:
    """What is said of settings that do not go with shared batches."""
    said = []
    with groups_of(size):
        for options in ({"compile": True}, {"cuda_graph_atoms": 100}):
            for model in (EquiformerV2, EquiformerV2Backbone):
                with pytest.raises(ValueError, match="--gp-gpus") as error:
                    model(**settings_of(TINY), **options)
                said.append(str(error.value))
    return said
