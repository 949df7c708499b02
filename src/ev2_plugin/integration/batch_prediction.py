"""Many structures through a model, as many at a time as the memory is meant to hold, in the order given."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress
from torch import Tensor

from ev2_plugin.integration.potential import HostModelPotential, ModelPotential
from ev2_plugin.potential.protocol import Prediction
from ev2_plugin.potential.structures import Structures, from_atoms, join
from ev2_plugin.relax.faults import OutOfMemory, evaluate, is_out_of_memory
from ev2_plugin.relax.settings import Budget

ON_CPU = Budget(max_edges=16_384, max_structures=64)
"""Where larger batches are not faster."""

AnyPotential = ModelPotential | HostModelPotential
T = TypeVar("T")


@dataclass(frozen=True)
class Predicted:
    """What a model says of one structure.

    Attributes:
        energy: eV; of which kind, the model's `energy_kind` says.
        forces: eV/Å on all atoms, fixed ones included, [atoms, 3].
        stress: eV/Å^3 in ASE's order (xx, yy, zz, yz, xz, xy), [6]; None if the model has no such output.
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None = None

    @property
    def results(self) -> dict[str, float | np.ndarray]:
        """As ASE's calculators keep them."""
        found: dict[str, float | np.ndarray] = {"energy": self.energy, "forces": self.forces}
        return found if self.stress is None else {**found, "stress": self.stress}


def bare_structures(structures: Iterable[Atoms], ids: Sequence[str]) -> Iterator[Structures]:
    """Structures one by one, without their constraints, which do not matter to a prediction.

    Raises:
        ValueError: If one has no atoms, or a periodic direction without a cell vector.
    """
    for atoms, name in zip(structures, ids, strict=True):
        if not len(atoms):
            raise ValueError(f"structure {name} has no atoms")
        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, tags=atoms.get_tags())
        yield from_atoms([bare], [name])


def batches(potential: AnyPotential, structures: Iterable[Structures], budget: Budget) -> Iterator[Structures]:
    """Consecutive structures together, as long as they are within the budget.

    Those of fairchem's own models are also of one periodicity, as these models need it.

    Raises:
        StructureError: Naming a structure with atoms that coincide, a singular cell or positions that are no numbers.
    """
    members: list[Structures] = []
    edges = 0
    for one in structures:
        (more,) = potential.num_edges(one)
        apart = isinstance(potential, HostModelPotential) and members and not torch.equal(members[-1].pbc, one.pbc)
        if members and (apart or not budget.holds(edges + more, len(members) + 1)):
            yield join(members)
            members, edges = [], 0
        members.append(one)
        edges += more
    if members:
        yield join(members)


def predict_each(potential: AnyPotential, structures: Iterable[Structures], budget: Budget) -> Iterator[Predicted]:
    """Predictions one by one, as their batches are done.

    Raises:
        MemoryError: If the memory does not suffice for a structure alone.
        ValueError: Naming a structure that cannot be evaluated, or whose energy or forces are not finite.
    """
    all_outputs = _AllOutputs(potential)
    for batch in batches(potential, structures, budget):
        for part, found in _in_pieces(batch, lambda some: evaluate(all_outputs, some)):
            yield from _apart(part, found)


def embed_each(potential: ModelPotential, structures: Iterable[Structures], budget: Budget) -> Iterator[np.ndarray]:
    """Node features after the final norm one structure after the other, [atoms, coefficients, channels].

    Raises:
        MemoryError: If the memory does not suffice for a structure alone.
        StructureError: Naming a structure that the model cannot take.
    """
    for batch in batches(potential, structures, budget):
        for part, nodes in _in_pieces(batch, lambda some: _embedded(potential, some)):
            yield from (one.cpu().numpy() for one in nodes.split(part.natoms.tolist()))


class _AllOutputs:
    """A potential that also says the stress, where the model predicts it."""

    def __init__(self, potential: AnyPotential) -> None:
        self.potential = potential

    @property
    def device(self) -> torch.device:
        return self.potential.device

    def __call__(self, structures: Structures) -> Prediction:
        found = self.potential.evaluate(structures, self.potential.properties)
        return _WithStress(found["energy"].squeeze(1), found["forces"], found.get("stress"))

    def num_edges(self, structures: Structures) -> list[int]:
        return self.potential.num_edges(structures)


@dataclass(frozen=True)
class _WithStress(Prediction):
    stress: Tensor | None


def _apart(structures: Structures, found: Prediction) -> Iterator[Predicted]:
    """One prediction for each structure."""
    stress = getattr(found, "stress", None)
    voigt: Sequence[np.ndarray | None] = [None] * len(structures)
    if stress is not None:
        voigt = [full_3x3_to_voigt_6_stress(one) for one in stress.reshape(-1, 3, 3).cpu().numpy()]
    forces = [part.cpu().numpy() for part in found.forces.split(structures.natoms.tolist())]
    for energy, force, one in zip(found.energy.tolist(), forces, voigt, strict=True):
        yield Predicted(energy, force, one)


@torch.no_grad()
def _embedded(potential: ModelPotential, structures: Structures) -> Tensor | OutOfMemory:
    try:
        potential.model.eval()
        backbone = potential.backbone
        return backbone.embed(*backbone.read(potential.batch(structures.to(potential.device)))).nodes
    except Exception as error:  # a real one is raised again
        if not is_out_of_memory(error):
            raise
        return OutOfMemory(str(error))


def _in_pieces(batch: Structures, compute: Callable[[Structures], T | OutOfMemory]) -> Iterator[tuple[Structures, T]]:
    """The batch and what is computed of it; in halves, quarters and so on where the memory does not suffice."""
    found = compute(batch)
    if not isinstance(found, OutOfMemory):
        yield batch, found
        return
    if len(batch) == 1:
        raise MemoryError(f"structure {batch.ids[0]}: the memory does not suffice for it: {found.reason}")
    logging.info(f"the memory does not suffice for a batch of {len(batch)} structures: it is taken in halves")
    half = len(batch) // 2
    for part in (range(half), range(half, len(batch))):
        yield from _in_pieces(batch.select(part), compute)
