"""The files of a campaign's systems: clean slab, adsorbate, and what their energies are."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.io import read
from ase.optimize import BFGS

from ev2_plugin.adsorbml.campaign import Campaign
from ev2_plugin.adsorbml.structure_files import write_structures
from ev2_plugin.potential.calculators import build_calculator
from ev2_plugin.storage.safe_pickle import reading

REFERENCE_KEYS = ("slab_energy", "adsorbate_energy")

OC20_GAS_ENERGIES: Mapping[str, float] = {"H": -3.477, "O": -7.204, "C": -7.282, "N": -8.083}
"""eV per atom; adsorbates of OC20 have the sum over their atoms as reference. They follow from H2O, CO, H2 and N2.

Source: OC20 (arXiv:2010.09990), table 5.
"""

RELAXED_FMAX = 0.02  # eV/Å
_MOST_STEPS = 1000


def write_system(path: Path, slab: Atoms, adsorbate: Atoms, placed_on: Atoms | None = None) -> None:
    """Write the file of a system.

    Args:
        path: `systems/<system>.extxyz`.
        slab: Clean and relaxed, with tags and fixed atoms; `info` may have `REFERENCE_KEYS`.
        adsorbate: Alone.
        placed_on: Slab of the initial structures, if that is another.
    """
    frames = [slab.copy(), adsorbate.copy(), *([placed_on.copy()] if placed_on is not None else [])]
    known = {key: float(slab.info[key]) for key in REFERENCE_KEYS if key in slab.info}
    for frame in frames:
        frame.info = {}
    frames[0].info = known
    write_structures(path, frames)


def set_references(campaign: Campaign, energies: Callable[[str, Atoms, Atoms], Mapping[str, float]]) -> int:
    """Write reference energies into the files of all systems.

    Args:
        campaign: With systems.
        energies: Of a system's name, slab and adsorbate, some of `REFERENCE_KEYS` [eV]; others stay as they are.

    Returns:
        How many systems there are.

    Raises:
        ValueError: If there are none.
    """
    paths = sorted(campaign.systems.glob("*.extxyz"))
    if not paths:
        raise ValueError(f"{campaign.systems}: no systems; 'ev2 adsorbml place' makes them")
    for path in paths:
        frames = read(path, ":", format="extxyz")
        frames[0].info.update(energies(path.stem, frames[0], frames[1]))
        write_system(path, *frames)
    return len(paths)


def calculated_references(calculator: str, keywords: Mapping[str, Any]) -> Callable[..., dict[str, float]]:
    """Energies by an ASE calculator of slab and adsorbate as they are in the files, for `set_references`."""

    def energies(system: str, slab: Atoms, adsorbate: Atoms) -> dict[str, float]:
        return {
            key: energy_of(atoms, calculator, keywords)
            for key, atoms in zip(REFERENCE_KEYS, (slab, adsorbate), strict=True)
        }

    return energies


def oc20_references(system: str, slab: Atoms, adsorbate: Atoms) -> dict[str, float]:
    """OC20's reference energy of the adsorbate, for `set_references`.

    Raises:
        ValueError: If the adsorbate has an element without one.
    """
    unknown = sorted(set(adsorbate.get_chemical_symbols()) - set(OC20_GAS_ENERGIES))
    if unknown:
        raise ValueError(f"system {system}: OC20 has no reference energy for {', '.join(unknown)}")
    return {"adsorbate_energy": sum(OC20_GAS_ENERGIES[symbol] for symbol in adsorbate.get_chemical_symbols())}


def tabulated_references(path: Path) -> Callable[..., dict[str, float]]:
    """Energies from a CSV with the columns system, slab_energy and adsorbate_energy, or some of them.

    Raises:
        ValueError: If a column `system` is missing, or an energy is no finite number.
    """
    with reading(path), path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or "system" not in rows[0]:
        raise ValueError(f"{path}: should have the columns system, {', '.join(REFERENCE_KEYS)}")
    table = {row["system"]: {key: _finite(path, row, key) for key in REFERENCE_KEYS if row.get(key)} for row in rows}

    def energies(system: str, slab: Atoms, adsorbate: Atoms) -> dict[str, float]:
        if system not in table:
            raise ValueError(f"{path} has no line for system {system}")
        return table[system]

    return energies


def energy_of(atoms: Atoms, calculator: str, keywords: Mapping[str, Any]) -> float:
    """Energy by an ASE calculator [eV]."""
    probe = atoms.copy()
    probe.calc = build_calculator(calculator, keywords)
    return float(probe.get_potential_energy())


def relax(atoms: Atoms, calculator: str, keywords: Mapping[str, Any]) -> Atoms:
    """Relax a slab or a molecule with an ASE calculator.

    Raises:
        ValueError: If it does not converge.
    """
    moving = atoms.copy()
    moving.calc = build_calculator(calculator, keywords)
    with BFGS(moving, logfile=None) as optimizer:
        if not optimizer.run(fmax=RELAXED_FMAX, steps=_MOST_STEPS):
            raise ValueError(
                f"{atoms.get_chemical_formula()} did not relax to {RELAXED_FMAX} eV/Å in {_MOST_STEPS} steps"
            )
    moving.calc = None
    return moving


def _finite(path: Path, row: Mapping[str, str], key: str) -> float:
    try:
        value = float(row[key])
    except ValueError:
        value = float("nan")
    if not isfinite(value):
        raise ValueError(f"{path}, system {row['system']}: {key} is {row[key]!r}, not a finite number")
    return value
