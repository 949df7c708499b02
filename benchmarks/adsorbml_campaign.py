"""A campaign of made-up relaxations, written as the real stages write theirs.

Slabs of several metals with an adsorbate in random places, about 70 atoms; their ends are shaken, and some adsorbates
torn apart, lifted off or pushed into the slab, and some slabs damaged.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import fcc111, molecule
from ase.constraints import FixAtoms

from ev2_plugin.adsorbml.campaign import Campaign, structure_id
from ev2_plugin.adsorbml.records import SinglePoint, Target
from ev2_plugin.adsorbml.structure_files import name_placements, write_structures
from ev2_plugin.adsorbml.tables import write_table
from ev2_plugin.relax.group import Relaxed
from ev2_plugin.relax.results import Results

METALS = ("Cu", "Ag", "Au", "Ni", "Pd", "Pt", "Al", "Rh", "Ir", "Pb")
ADSORBATES = ("CO", "CH3OH", "NH3", "H2O", "CH3CHO", "OH", "C2H4", "CH3CH2OH")
PER_SYSTEM = 90
SHARDS = 4
SHAKEN = 0.05  # Å


@dataclass(frozen=True)
class Size:
    """How large a campaign is."""

    structures: int
    systems: int
    atoms: float


def make_campaign(campaign: Campaign, structures: int, seed: int = 0) -> Size:
    """Write systems, placements, relaxations, single points and targets."""
    rng = np.random.default_rng(seed)
    systems = max(1, structures // PER_SYSTEM)
    shards = [_shard(campaign.relaxations / f"shard-{number:03d}") for number in range(SHARDS)]
    points: list[SinglePoint] = []
    targets: list[Target] = []
    atoms = total = 0
    for number in range(systems):
        system = f"{METALS[number % len(METALS)]}-{ADSORBATES[number % len(ADSORBATES)]}-{number:04d}"
        slab, adsorbate = _system(number, rng)
        count = PER_SYSTEM if systems > 1 else structures
        configs = [f"random-{index:03d}" for index in range(count)]
        initial = [_placed(slab, adsorbate, rng) for _ in configs]
        write_structures(campaign.systems / f"{system}.extxyz", [slab, adsorbate])
        write_structures(campaign.placements / f"{system}.extxyz", name_placements(initial, system, configs))
        for index, (config, one) in enumerate(zip(configs, initial, strict=True)):
            energy = float(rng.normal(-2.0, 0.4))
            name = structure_id(system, config)
            end = Relaxed(name, index, energy, energy + 1, 0.019, 80, True, _relaxed(one, rng))
            shards[number % SHARDS].add(end)
            points.append(SinglePoint(system, config, energy + float(rng.normal(0, 0.05)), 30, 1, True))
            steps = int(rng.integers(1000, 4000))
            targets.append(Target(system, config, energy + float(rng.normal(0, 0.1)), steps, steps // 20))
            atoms += len(one)
        total += count
    for shard in shards:
        shard.close()
    write_table(campaign.single_point_table, points, SinglePoint)
    write_table(campaign.targets, targets, Target)
    return Size(total, systems, atoms / total)


def _shard(folder: Path) -> Results:
    folder.mkdir(parents=True)
    return Results(folder, (0, 0))


def _system(number: int, rng: np.random.Generator) -> tuple[Atoms, Atoms]:
    slab = fcc111(METALS[number % len(METALS)], (4, 4, 4), vacuum=10.0, periodic=True)
    slab.info = {}
    slab.set_tags((slab.get_tags() == 1).astype(int))
    slab.set_cell(slab.cell.array + rng.uniform(-0.2, 0.2, (3, 3)), scale_atoms=True)
    slab.set_constraint(FixAtoms(mask=slab.get_tags() == 0))
    adsorbate = molecule(ADSORBATES[number % len(ADSORBATES)])
    adsorbate.set_tags([2] * len(adsorbate))
    return slab, adsorbate


def _placed(slab: Atoms, adsorbate: Atoms, rng: np.random.Generator) -> Atoms:
    added = adsorbate.copy()
    added.rotate(rng.uniform(0, 360), "z")
    place = rng.uniform(size=2) @ slab.cell.array[:2]
    added.translate([*place[:2], slab.positions[:, 2].max() + 2.0 - added.positions[:, 2].min()])
    return slab + added


def _relaxed(initial: Atoms, rng: np.random.Generator) -> np.ndarray:
    positions = initial.positions + rng.normal(scale=SHAKEN, size=initial.positions.shape)
    tags = initial.get_tags()
    kind = rng.random()
    if kind < 0.05:
        positions[-1, 2] += 3.0
    elif kind < 0.10:
        positions[tags == 2, 2] += 3.0
    elif kind < 0.15:
        positions[np.flatnonzero(tags == 1)[0], 2] += 4.0
    elif kind < 0.20:
        positions[tags == 2, 2] -= 3.5
    fixed = tags == 0
    positions[fixed] = initial.positions[fixed]
    return positions
