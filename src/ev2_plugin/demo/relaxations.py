"""Relaxations by the model, judged by EMT from the same starts.

The model's positions are labelled with EMT anew, so a relaxation counts by where it really ended and not by
what the model believes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from torch_geometric.data import Data

from ev2_plugin.data.errors import mean_displacement
from ev2_plugin.data.structures import data_to_structure
from ev2_plugin.demo.emt import label


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


def reference_energy(start: Data) -> float:
    """Recover the energy of clean slab and isolated adsorbate [eV] from a start and its label."""
    return label(data_to_structure(start)).energy - start.y_init


def trace_relaxation(start: Data, frames: Sequence[Atoms]) -> RelaxationTrace:
    """Label every step of a relaxation with EMT.

    Args:
        start: Initial structure with `y_init` and `y_relaxed` [eV].
        frames: The trajectory, from the start to the relaxed structure, with the model's forces.
    """
    reference, free = reference_energy(start), start.fixed.numpy() == 0
    excess = [label(data_to_structure(start, one.positions), reference).energy - start.y_relaxed for one in frames]
    fmax = [largest_force(one.get_forces(apply_constraint=False)[free]) for one in frames]
    return RelaxationTrace(start.sid, np.array(excess), np.array(fmax))


def judge_relaxation(start: Data, end: Atoms, trace: RelaxationTrace) -> RelaxedSystem:
    """Compare the model's minimum with EMT's.

    Args:
        start: Initial structure with `y_init`, `y_relaxed` [eV] and `pos_relaxed` [Å].
        end: The last frame of the relaxation, with the model's energy.
        trace: The same relaxation, labelled.
    """
    minimum = start.pos_relaxed.numpy()
    return RelaxedSystem(
        sid=start.sid,
        emt_excess=float(trace.emt_excess[-1]),
        start_excess=start.y_init - start.y_relaxed,
        predicted_error=end.get_potential_energy() - start.y_relaxed,
        distance=mean_displacement(start, end.positions, minimum),
        start_distance=mean_displacement(start, start.pos.numpy(), minimum),
        fmax=float(trace.fmax[-1]),
    )


def largest_force(forces: np.ndarray) -> float:
    """Return the length of the longest of several forces, shape [atoms, 3], in their unit."""
    return float(np.linalg.norm(forces, axis=-1).max())
