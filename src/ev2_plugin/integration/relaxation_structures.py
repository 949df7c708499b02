"""Relaxed structures as files of ASE, with energy, forces and how each relaxation ended."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import ase.io
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import write_xyz
from ase.io.trajectory import TrajectoryWriter

from ev2_plugin.integration.relaxation_input import NamedStructure
from ev2_plugin.relax.group import Relaxed

FORMATS = (".extxyz", ".xyz", ".traj")
_NOT_IN_EXTXYZ = (dict, list, set)


def check_output(path: Path) -> None:
    """Refuse a file of a format that cannot be written.

    Raises:
        ValueError: If its name ends in none of `FORMATS`.
    """
    if path.suffix not in FORMATS:
        raise ValueError(f"{path}: relaxed structures are written as {', '.join(FORMATS)}, not as {path.suffix!r}")


def relaxed_structure(start: NamedStructure, relaxed: Relaxed, trajectory: Path, energy_kind: str) -> Atoms:
    """A relaxed structure, in all else as it was read.

    Args:
        start: As read.
        relaxed: How it ended.
        trajectory: Its trajectory, whose last frame has the forces.
        energy_kind: What the energies are.
    """
    last = ase.io.read(trajectory, -1, format="traj")  # whatever its id makes ASE think, such as a_POSCAR.traj
    atoms = start.atoms.copy()
    atoms.positions = relaxed.positions
    forces = last.get_forces(apply_constraint=False)
    atoms.calc = SinglePointCalculator(atoms, energy=relaxed.energy, forces=forces)
    atoms.info |= {
        "id": relaxed.id,
        "converged": relaxed.converged,
        "steps": relaxed.steps,
        "fmax": relaxed.fmax,
        "initial_energy": relaxed.initial_energy,
        "energy_kind": energy_kind,
    }
    return atoms


def write_structures(path: Path, structures: Iterable[Atoms]) -> None:
    """Write structures to one file, which is there as a whole or as it was before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.partial")
    if path.suffix == ".traj":
        with TrajectoryWriter(beside, "w") as writer:
            for atoms in structures:
                writer.write(atoms)
    else:
        with beside.open("w", encoding="utf-8") as file:
            for atoms in structures:
                atoms.info = {key: value for key, value in atoms.info.items() if not isinstance(value, _NOT_IN_EXTXYZ)}
                write_xyz(file, [atoms], columns=_columns(atoms))
    beside.replace(path)


def _columns(atoms: Atoms) -> list[str]:
    """What an extxyz file has of each atom; fixed atoms are left out unless asked for."""
    own = [name for name in atoms.arrays if name not in ("numbers", "positions", "forces")]
    return ["symbols", "positions", *own, "forces", *(["move_mask"] if atoms.constraints else [])]
