"""How large a batch of relaxing structures may be."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ev2_plugin.integration.potential import ModelPotential
from ev2_plugin.integration.relaxation_outputs import write_json
from ev2_plugin.integration.relaxation_settings import RelaxationRun
from ev2_plugin.potential.protocol import Potential
from ev2_plugin.relax.settings import Budget
from ev2_plugin.relax.source import Source
from ev2_plugin.storage.plain_files import read_json

if TYPE_CHECKING:
    from ev2_plugin.integration.estimate import Tracer

SAMPLED = 16
"""Structures by whose mean a batch is measured."""

SHARE = 0.8
"""Of the memory that is there: structures that enter may be larger than the mean."""

BUDGET = "budget.json"


def budget_of(
    run: RelaxationRun, source: Source, potential: Potential, config: Mapping[str, Any], folder: Path
) -> Budget:
    """The size of batches: what the config says; on a GPU what fits into its memory, elsewhere `eval_batch_size`.

    Args:
        run: Settings of the run.
        source: What is to be relaxed.
        potential: Of the model.
        config: The trainer's config, which describes the model.
        folder: Of the work.
    """
    if run.max_edges is not None:
        return Budget(max_edges=run.max_edges)
    if potential.device.type != "cuda" or not isinstance(potential, ModelPotential) or not len(source):
        return Budget(max_structures=run.batch_size)
    return fitting_budget(source, potential, config, folder)


def fitting_budget(source: Source, potential: ModelPotential, config: Mapping[str, Any], folder: Path) -> Budget:
    """As many mean structures as fit into the memory that the model's GPU has left, by the estimate of a prediction.

    What was found at the first start in a folder holds for later ones, so that they go on with the same batches.
    """
    known = folder / BUDGET
    if known.exists():
        return Budget(**read_json(known))
    fitting = fitting_edges(source, potential, config)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(known, {"max_edges": fitting})
    return Budget(max_edges=fitting)


def fitting_edges(source: Source, potential: ModelPotential, config: Mapping[str, Any]) -> int:
    """Edges of as many mean structures as fit, by estimate, into the memory that the model's GPU has left."""
    from ev2_plugin.integration.estimate import Tracer, Use, configured_level  # which imports the trainer, as this is

    free, _ = torch.cuda.mem_get_info(potential.device)
    memory = free + torch.cuda.memory_reserved(potential.device)
    atoms, edges = mean_size(source, potential)
    use = Use(False, configured_level(config), potential.autocast_dtype)
    fitting = edges_that_fit(Tracer(config, use, "cuda"), round(SHARE * memory), atoms, edges)
    logging.info(
        f"batches of up to {fitting} edges, {fitting / edges:.0f} mean structures: by estimate {SHARE:.0%} of "
        f"{memory / 1e9:.0f} GB"
    )
    return fitting


def edges_that_fit(tracer: Tracer, memory: int, atoms: int | float, edges: int | float) -> int:
    """Edges of as many mean structures as fit into a memory in bytes; those of one if not even that does."""
    return round(max(tracer.largest_multiple(memory, atoms, edges), 1) * edges)


def mean_size(source: Source, potential: Potential) -> tuple[float, float]:
    """Mean numbers of atoms and edges of structures, from a sample evenly over all of them."""
    count = min(SAMPLED, len(source))
    sample = [source[place * (len(source) - 1) // max(count - 1, 1)] for place in range(count)]
    atoms = [len(one.positions) for one in sample]
    edges = [number for one in sample for number in potential.num_edges(one.to(potential.device))]
    return sum(atoms) / count, max(sum(edges) / count, 1.0)
