"""Labels from ASE's effective medium theory: energies, forces, relaxations and trajectories.

All energies are **adsorption energies**: the total EMT energy of slab and adsorbate, less that of the relaxed
clean slab and that of the relaxed isolated adsorbate [eV]. Forces are the total energy's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.calculators.emt import EMT
from ase.md.langevin import Langevin
from ase.optimize import BFGS

from ev2_plugin.demo.systems import ADSORBATES, AdsorbateSystem, build_slab, place_adsorbate

RELAXED_FMAX = 0.03  # eV/Å
MAX_RELAXATION_STEPS = 500


@dataclass(frozen=True)
class Labelled:
    """A structure with its labels.

    Attributes:
        atoms: The structure, without calculator.
        energy: Adsorption energy [eV]; total energy where no reference was given.
        forces: Forces on all atoms, constraints not applied [eV/Å], shape [atoms, 3].
    """

    atoms: Atoms
    energy: float
    forces: np.ndarray


@dataclass(frozen=True)
class Relaxation:
    """A system relaxed from its placement.

    Attributes:
        system: What was relaxed.
        reference: Energy of the relaxed clean slab and of the relaxed isolated adsorbate together [eV].
        path: Labelled steps; the first is the placed adsorbate, the last the minimum.
    """

    system: AdsorbateSystem
    reference: float
    path: tuple[Labelled, ...]


def label(atoms: Atoms, reference: float = 0.0) -> Labelled:
    """Label a structure.

    Args:
        atoms: Structure of elements that EMT knows; left as it is.
        reference: Energy of its clean slab and isolated adsorbate [eV]; with 0 the label is the total energy.

    Returns:
        A copy of the structure with energy and forces.
    """
    probe = atoms.copy()
    probe.calc = EMT()
    return _read_labels(probe, reference)


def relax(
    atoms: Atoms, reference: float = 0.0, fmax: float = RELAXED_FMAX, steps: int = MAX_RELAXATION_STEPS
) -> list[Labelled]:
    """Relax a structure to its nearest EMT minimum.

    Args:
        atoms: Structure to start from; left as it is.
        reference: As for `label`.
        fmax: Largest force on a free atom at the end [eV/Å].
        steps: Most steps to take.

    Returns:
        Every step with its labels, from the start to the minimum.

    Raises:
        ValueError: If the steps did not suffice.
    """
    moving = atoms.copy()
    moving.calc = EMT()
    with BFGS(moving, logfile=None) as optimizer:
        path: list[Labelled] = []
        for _ in optimizer.irun(fmax=fmax, steps=steps):
            path.append(_read_labels(moving, reference))
    if not optimizer.converged():
        raise ValueError(f"{atoms.get_chemical_formula()} did not relax to {fmax} eV/Å in {steps} steps")
    return path


def relax_system(system: AdsorbateSystem) -> Relaxation:
    """Relax the clean slab, place the adsorbate on it and relax both.

    Args:
        system: What to build.

    Returns:
        The labelled relaxation.

    Raises:
        ValueError: If a relaxation did not converge.
    """
    slab = relax(build_slab(system.substrate))[-1]
    gas = relax(ADSORBATES[system.adsorbate])[-1]
    reference = slab.energy + gas.energy
    return Relaxation(system, reference, tuple(relax(place_adsorbate(system, slab.atoms), reference)))


def sample_frames(relaxation: Relaxation, count: int, rng: np.random.Generator) -> list[Labelled]:
    """Choose the frames of one system: relaxation steps, rattled structures and molecular dynamics.

    A third each: steps of the relaxation, evenly from the first to the last; structures between start and
    minimum with free atoms displaced at random; and snapshots of Langevin dynamics from the minimum.

    Args:
        relaxation: The system's relaxation.
        count: Number of frames, at least 3.
        rng: Source of displacements and velocities.

    Returns:
        Labelled frames, all different.

    Raises:
        ValueError: If `count` is less than 3.
    """
    if count < 3:
        raise ValueError(f"a system needs at least 3 frames, not {count}")
    third = count // 3
    steps = np.unique(np.linspace(0, len(relaxation.path) - 1, third).round().astype(int))
    frames = [relaxation.path[step] for step in steps]
    frames += _dynamics(relaxation, third, rng)
    rattled = _rattled(relaxation, rng)
    while len(frames) < count:
        frames.append(label(next(rattled), relaxation.reference))
    return frames


def label_system(system: AdsorbateSystem, count: int, seed: int) -> tuple[Relaxation, list[Labelled]]:
    """Relax a system and choose its frames, by random numbers that are the system's own.

    A module-level function of plain data, and of a module that imports no torch, so that worker processes
    start fast.

    Args:
        system: What to build.
        count: Number of frames, at least 3.
        seed: Seed of the dataset; the frames depend on it and on the system alone.

    Returns:
        The relaxation and the frames.

    Raises:
        ValueError: If a relaxation did not converge, or `count` is less than 3.
    """
    relaxation = relax_system(system)
    return relaxation, sample_frames(relaxation, count, np.random.default_rng([seed, system.sid]))


def _rattled(relaxation: Relaxation, rng: np.random.Generator) -> Iterator[Atoms]:
    start, end = relaxation.path[0].atoms, relaxation.path[-1].atoms
    free = end.get_tags() > 0
    while True:
        atoms = end.copy()
        mixture = rng.random()
        atoms.positions += mixture * (start.positions - end.positions)
        width = rng.uniform(0.02, 0.1)
        atoms.positions[free] += rng.normal(scale=width, size=(int(free.sum()), 3))
        yield atoms


def _dynamics(relaxation: Relaxation, count: int, rng: np.random.Generator) -> Iterator[Labelled]:
    atoms = relaxation.path[-1].atoms.copy()
    atoms.calc = EMT()
    temperature = rng.uniform(300.0, 900.0)
    free = atoms.get_tags() > 0
    momenta = rng.normal(size=(len(atoms), 3)) * np.sqrt(atoms.get_masses() * units.kB * temperature)[:, None]
    atoms.set_momenta(np.where(free[:, None], momenta, 0.0))
    motion = Langevin(atoms, timestep=2 * units.fs, temperature_K=temperature, friction=0.02 / units.fs, rng=rng)
    for _ in range(count):
        motion.run(10)
        yield _read_labels(atoms, relaxation.reference)


def _read_labels(atoms: Atoms, reference: float) -> Labelled:
    """Copy what the structure's own calculator says of it."""
    bare = atoms.copy()
    bare.calc = None
    bare.set_momenta(None)
    return Labelled(
        atoms=bare,
        energy=float(atoms.get_potential_energy()) - reference,
        forces=atoms.get_forces(apply_constraint=False),
    )
