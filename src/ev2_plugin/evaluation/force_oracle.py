"""Forces on relaxed structures by an ASE calculator, on several processes: what AFbT is judged by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from ase.calculators.calculator import BaseCalculator
from jaxtyping import Float
from torch_geometric.data import Data

from ev2_plugin.data.structures import data_to_structure
from ev2_plugin.evaluation.catalogue import system_of
from ev2_plugin.potential.ase_calculator import CalculatorPotential
from ev2_plugin.potential.calculators import build_calculator
from ev2_plugin.potential.structures import Structures, from_atoms, join
from ev2_plugin.workers import run_jobs

STRUCTURES_PER_JOB = 20


@dataclass(frozen=True)
class ForceOracle:
    """How to build the calculator; each process builds its own.

    Attributes:
        path: Name of an ASE calculator as `build_calculator` takes it: `ase.calculators.emt.EMT`.
        arguments: Its keyword arguments.
    """

    path: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> BaseCalculator:
        """Build the calculator.

        Raises:
            ValueError: If there is no such thing, it does not take the arguments, or what it makes is no calculator.
        """
        return build_calculator(self.path, self.arguments)


def relaxed_structure(data: Data, positions: np.ndarray) -> Structures:
    """A structure at the positions where its relaxation ended, Å, [atoms, 3]."""
    return from_atoms([data_to_structure(data, positions)], [system_of(data)])


def largest_forces(
    structures: Sequence[Structures],
    oracle: ForceOracle,
    workers: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Float[np.ndarray, " structures"]:
    """Find the largest force on a free atom of each structure.

    Args:
        structures: One structure each.
        oracle: Gives the forces.
        workers: Processes.
        on_progress: Called with the numbers of structures done and in all.

    Returns:
        Largest lengths, eV/Å, in the order of the structures.

    Raises:
        ValueError: If the calculator cannot be built, fails on a structure or returns forces that are not finite; the
            structure is named.
    """
    oracle.build()  # a mistake in its name or arguments shows before any process starts
    starts = range(0, len(structures), STRUCTURES_PER_JOB)
    jobs = [
        partial(_largest_forces, start, join(structures[start : start + STRUCTURES_PER_JOB]), oracle)
        for start in starts
    ]
    found = np.full(len(structures), np.nan)
    done = 0
    for start, forces in run_jobs(jobs, workers):
        found[start : start + len(forces)] = forces
        done += len(forces)
        on_progress(done, len(structures))
    return found


def _largest_forces(start: int, structures: Structures, oracle: ForceOracle) -> tuple[int, np.ndarray]:
    potential = CalculatorPotential(oracle.build())
    return start, np.array([_largest_force(structures.select([index]), potential) for index in range(len(structures))])


def _largest_force(structure: Structures, potential: CalculatorPotential) -> float:
    try:
        forces = potential(structure).forces
    except Exception as error:  # each calculator has its own
        reason = str(error) or type(error).__name__
        raise ValueError(f"structure {structure.ids[0]}: {type(potential.calculator).__name__}: {reason}") from error
    if not torch.isfinite(forces).all():
        raise ValueError(f"structure {structure.ids[0]}: the calculator's forces are not finite")
    return float(forces[~structure.fixed].norm(dim=1).max())
