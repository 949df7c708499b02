"""Campaigns whose relaxations are made up, written as the real stages write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from ev2_plugin.adsorbml.campaign import Campaign, structure_id
from ev2_plugin.adsorbml.structure_files import name_placements, write_structures
from ev2_plugin.relax.group import Relaxed
from ev2_plugin.relax.results import Results


def write_placements(
    campaign: Campaign, system: str, slab: Atoms, adsorbate: Atoms, initial: Mapping[str, Atoms], *others: Atoms
) -> None:
    """Write the files of a system: clean slab, adsorbate and perhaps the slab before; initial structures by name."""
    write_structures(campaign.systems / f"{system}.extxyz", [slab, adsorbate, *others])
    named = name_placements(list(initial.values()), system, list(initial))
    write_structures(campaign.placements / f"{system}.extxyz", named)


def write_relaxations(folder: Path, relaxed: Sequence[Relaxed]) -> None:
    """Write a shard."""
    folder.mkdir(parents=True)
    results = Results(folder, (0, 0))
    for one in relaxed:
        results.add(one)
    results.close()


def relaxed(system: str, config: str, positions: np.ndarray, energy: float = 0.0, index: int = 0) -> Relaxed:
    """How a relaxation ended."""
    return Relaxed(structure_id(system, config), index, energy, energy + 1, 0.01, 20, True, np.array(positions))
