"""Relaxations by the model, judged by EMT from the same starts.

The model's positions are labelled with EMT anew, so a relaxation counts by where it really ended and not by
what the model believes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import Trajectory
from torch_geometric.data import Data

from ev2_plugin.data.errors import mean_displacement
from ev2_plugin.data.predictions import StructurePrediction
from ev2_plugin.data.structures import data_to_structure, structure_to_data
from ev2_plugin.demo.emt import label

SAME_POSITIONS = 1e-5  # Å


@dataclass(frozen=True)
class RelaxedSystem:
    """How the relaxation of one system ended.

    Attributes:
        sid: Number of the system.
        emt_excess: EMT energy at the model's minimum above that of EMT's own minimum [eV]; negative where the
            model found a lower one.
        start_excess: The same of the start [eV].
        predicted_error: Energy that the model gives its minimum less EMT's at EMT's minimum [eV].
        distance: Mean distance of the free atoms from EMT's minimum [Å].
        start_distance: The same of the start [Å].
        fmax: Largest force that the model predicts on a free atom at the end [eV/Å].
    """

    sid: int
    emt_excess: float
    start_excess: float
    predicted_error: float
    distance: float
    start_distance: float
    fmax: float


@dataclass(frozen=True)
class RelaxationTrace:
    """One relaxation step by step.

    Attributes:
        sid: Number of the system.
        emt_excess: EMT energy above that of EMT's own minimum [eV], shape [steps + 1].
        fmax: Largest predicted force on a free atom [eV/Å], shape [steps + 1].
    """

    sid: int
    emt_excess: np.ndarray
    fmax: np.ndarray


def label_relaxed(starts: Sequence[Data], positions: Mapping[str, np.ndarray]) -> list[Data]:
    """Label the structures at which the model's relaxations ended.

    Args:
        starts: Initial structures with `y_init` [eV].
        positions: Final positions by system, as `read_relaxed_positions` returns them.

    Returns:
        Data objects with EMT's adsorption energies and forces and `fid` 0, in the order of `starts`.

    Raises:
        ValueError: If a system has no final positions.
    """
    relaxed = []
    for start in starts:
        if str(start.sid) not in positions:
            raise ValueError(f"system {start.sid} is missing among {len(positions)} relaxed systems")
        final = label(data_to_structure(start, positions[str(start.sid)]), reference_energy(start))
        relaxed.append(structure_to_data(final.atoms, sid=start.sid, fid=0, energy=final.energy, forces=final.forces))
    return relaxed


def reference_energy(start: Data) -> float:
    """Recover the energy of clean slab and isolated adsorbate [eV] from a start and its label."""
    return label(data_to_structure(start)).energy - start.y_init


def judge_relaxations(
    starts: Sequence[Data],
    relaxed: Sequence[Data],
    predictions: Mapping[str, StructurePrediction],
) -> list[RelaxedSystem]:
    """Compare the model's minima with EMT's.

    Args:
        starts: Initial structures with `y_init`, `y_relaxed` and `pos_relaxed`.
        relaxed: The model's minima, labelled, in the same order.
        predictions: What the model says of its minima, by identifier.

    Returns:
        One verdict per system, in the same order.

    Raises:
        ValueError: If the systems of the two sequences differ.
    """
    verdicts = []
    for start, end in zip(starts, relaxed, strict=True):
        if start.sid != end.sid:
            raise ValueError(f"system {start.sid} is set beside system {end.sid}")
        predicted = predictions[f"{end.sid}_{end.fid}"]
        minimum = start.pos_relaxed.numpy()
        verdicts.append(
            RelaxedSystem(
                sid=start.sid,
                emt_excess=end.y - start.y_relaxed,
                start_excess=start.y_init - start.y_relaxed,
                predicted_error=predicted.energy - start.y_relaxed,
                distance=mean_displacement(start, end.pos.numpy(), minimum),
                start_distance=mean_displacement(start, start.pos.numpy(), minimum),
                fmax=largest_force(predicted.free_forces),
            )
        )
    return verdicts


def trace_relaxations(
    starts: Sequence[Data],
    relaxed: Sequence[Data],
    verdicts: Sequence[RelaxedSystem],
    trajectories: Path,
    on_system: Callable[[int], None] = lambda sid: None,
) -> list[RelaxationTrace]:
    """Follow relaxations through the trajectories that the host wrote.

    Args:
        starts: Initial structures.
        relaxed: Where they ended, in the same order; files of converged systems stop one step before.
        verdicts: What was found there, in the same order.
        trajectories: Folder with `<sid>.traj`; a system that needed no step has an empty file.
        on_system: Called with the number of each system done.

    Returns:
        One trace per system, from the start to the end.
    """
    traces = []
    for start, end, verdict in zip(starts, relaxed, verdicts, strict=True):
        reference, free = reference_energy(start), start.fixed.numpy() == 0
        excess, fmax = [], []
        for frame in _read_frames(trajectories / f"{start.sid}.traj"):
            if mean_displacement(start, frame.positions, end.pos.numpy()) < SAME_POSITIONS:
                break
            fmax.append(largest_force(frame.get_forces(apply_constraint=False)[free]))
            excess.append(label(data_to_structure(start, frame.positions), reference).energy - start.y_relaxed)
        traces.append(
            RelaxationTrace(start.sid, np.array([*excess, verdict.emt_excess]), np.array([*fmax, verdict.fmax]))
        )
        on_system(start.sid)
    return traces


def _read_frames(path: Path) -> list[Atoms]:
    if path.stat().st_size == 0:
        return []
    with Trajectory(path) as frames:
        return list(frames)


def largest_force(forces: np.ndarray) -> float:
    """Return the length of the longest of several forces, shape [atoms, 3], in their unit."""
    return float(np.linalg.norm(forces, axis=-1).max())
