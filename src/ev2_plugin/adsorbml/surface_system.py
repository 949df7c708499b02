"""A system, that is an adsorbate and a surface: its clean slab, its initial structures, its reference energies.

`systems/<system>.extxyz` holds two or three frames:

0. the clean slab, relaxed, with tags (0 below the surface, 1 surface), periodicity and cell; `info` may have
   `slab_energy` and `adsorbate_energy` [eV], total energies by the method of the single points;
1. the adsorbate alone;
2. the slab on which the placements were made, if that is not frame 0: usually the slab before it was relaxed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read

from ev2_plugin.adsorbml.connectivity import Lattice

ADSORBATE_TAG = 2
MOST_DIFFERENCE = 0.5
"""Å, summed over all coordinates of the slab: farther apart, its atoms are not those of the clean slab."""


@dataclass(frozen=True)
class CleanSlab:
    """The surface without adsorbate.

    Attributes:
        numbers: Atomic numbers, [slab atoms].
        relaxed: Positions in Å, [slab atoms, 3].
        placed_on: Positions in Å before an adsorbate was placed, [slab atoms, 3].
        lattice: Cell and periodicity.
    """

    numbers: np.ndarray
    relaxed: np.ndarray
    placed_on: np.ndarray
    lattice: Lattice


@dataclass(frozen=True)
class Placements:
    """Initial structures of one system, all of the same atoms in the same cell.

    Attributes:
        system: Its name.
        configs: Name of each, [configs].
        numbers: Atomic numbers, [atoms].
        tags: 0 below the surface, 1 surface, 2 adsorbate, [atoms].
        positions: Å, [configs, atoms, 3].
    """

    system: str
    configs: tuple[str, ...]
    numbers: np.ndarray
    tags: np.ndarray
    positions: np.ndarray


def read_clean_slab(path: Path) -> CleanSlab:
    """Read the clean slab of a system.

    Raises:
        ValueError: If there are fewer than two frames, the slab has atoms of an adsorbate, or the slab of the third
            frame has other atoms or another cell.
    """
    frames = _slab_and_adsorbate(path)
    relaxed, before = frames[0], frames[2] if len(frames) > 2 else frames[0]
    if (relaxed.get_tags() == ADSORBATE_TAG).any():
        raise ValueError(f"{path}: the first frame should be the clean slab, but has atoms of tag 2 (adsorbate)")
    _require_same(before, relaxed, f"{path}: the third frame, the slab on which adsorbates are placed,")
    lattice = Lattice(relaxed.cell.array, relaxed.pbc)
    return CleanSlab(relaxed.numbers, relaxed.positions, before.positions, lattice)


def read_reference_energy(path: Path) -> float | None:
    """What to subtract from a system's total energies to get adsorption energies [eV].

    Returns:
        Energy of the clean slab plus that of the adsorbate; None if the file does not state both.

    Raises:
        ValueError: If there are fewer than two frames, or a stated energy is no finite number.
    """
    energies = []
    info = _slab_and_adsorbate(path)[0].info
    for key in ("slab_energy", "adsorbate_energy"):
        energy = info.get(key)
        if energy is None:
            return None
        if not isinstance(energy, int | float | np.number) or not isfinite(energy):
            raise ValueError(f"{path}: {key} is {energy!r}; it should be a finite number")
        energies.append(float(energy))
    return sum(energies)


def read_placements(path: Path, system: str, configs: Sequence[str], slab: CleanSlab) -> Placements:
    """Read the initial structures of a system and see that its slab is the clean one.

    Args:
        path: Their file.
        system: Name of the system.
        configs: Names of the structures in the file, in its order.
        slab: The clean slab.

    Raises:
        ValueError: If the file has other structures by now, one has no adsorbate, or has other atoms or another cell
            than the first or than the clean slab, or its slab's atoms are elsewhere.
    """
    frames = _frames(path)
    if len(frames) != len(configs):
        raise ValueError(f"{path} has {len(frames)} structures, not the {len(configs)} it had before")
    for config, frame in zip(configs, frames, strict=True):
        _require_same(frame, frames[0], f"{path}, {config}:")
        if not np.array_equal(frame.get_tags(), frames[0].get_tags()):
            raise ValueError(f"{path}, {config}: has other tags than the first structure")
    first = frames[0]
    tags = first.get_tags()
    positions = np.stack([frame.positions for frame in frames])
    placements = Placements(system, tuple(configs), first.numbers, tags, positions)
    on_slab = tags != ADSORBATE_TAG
    if on_slab.all() or not on_slab.any():
        raise ValueError(
            f"{path}: tags should be 2 for the adsorbate, 0 or 1 for the slab; one of the two has no atoms"
        )
    clean = Atoms(slab.numbers, cell=slab.lattice.cell, pbc=slab.lattice.pbc)
    _require_same(first[on_slab], clean, f"{path}: the slab")
    _require_same_places(path, placements, on_slab, slab)
    return placements


def _require_same_places(path: Path, placements: Placements, on_slab: np.ndarray, slab: CleanSlab) -> None:
    differences = slab.lattice.folded(placements.positions[:, on_slab] - slab.placed_on)
    sums = np.abs(differences).sum(axis=(1, 2))
    worst = int(sums.argmax())
    if sums[worst] >= MOST_DIFFERENCE:
        raise ValueError(
            f"{path}, {placements.configs[worst]}: coordinates of the slab differ from the clean slab's by "
            f"{sums[worst]:.3g} Å in all; below {MOST_DIFFERENCE} Å they count as the same slab with the same order "
            "of atoms. If adsorbates were placed on a slab that was not relaxed, it should be the third frame of "
            "the system's file"
        )


def _require_same(found: Atoms, wanted: Atoms, what: str) -> None:
    for name, one, other in (
        ("atoms", found.numbers, wanted.numbers),
        ("periodicity", found.pbc, wanted.pbc),
    ):
        if not np.array_equal(one, other):
            raise ValueError(f"{what} has other {name} than it should: {_short(one)} and not {_short(other)}")
    if not np.allclose(found.cell.array, wanted.cell.array, rtol=0, atol=1e-5):
        raise ValueError(f"{what} has another cell than it should: {found.cell.array} and not {wanted.cell.array}")


def _short(values: np.ndarray) -> str:
    text = " ".join(str(value) for value in values[:8])
    return text if len(values) <= 8 else f"{text} ... ({len(values)} in all)"


def _slab_and_adsorbate(path: Path) -> Sequence[Atoms]:
    frames = _frames(path)
    if len(frames) < 2:
        raise ValueError(f"{path}: {len(frames)} frames; there should be the clean slab and the adsorbate")
    return frames


def _frames(path: Path) -> Sequence[Atoms]:
    return read(path, ":", format="extxyz")
