"""By how much predictions break the symmetries that physics has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ev2_plugin.integration.batch_prediction import AnyPotential, batches
from ev2_plugin.integration.potential import ModelPotential
from ev2_plugin.integration.symmetry_operations import Operation, Symmetry, different_edges
from ev2_plugin.potential.structures import Structures
from ev2_plugin.relax.settings import Budget

Outputs = Mapping[str, Tensor]
Drawn = Sequence[Mapping[Symmetry, Sequence[Operation]]]
"""For each structure, its operations."""


@dataclass(frozen=True)
class Deviation:
    """How far predictions are from what a symmetry demands, over all structures (or atoms) and operations.

    Attributes:
        mean: Of the length of the difference: meV, meV/Å or meV/Å^3.
        largest: The largest.
        relative: The mean, over the mean length of what is predicted; None of energies, whose zero is arbitrary.
    """

    mean: float
    largest: float
    relative: float | None


@dataclass(frozen=True)
class SymmetryError:
    """How well one symmetry is kept.

    Attributes:
        outputs: Deviation of `energy`, `forces` and, if it is predicted, `stress`.
        other_edges: Edges that a changed structure has otherwise than the structure it was made of, over all
            operations; None if the model's edges are not known.
        evaluations: Changed structures that were evaluated.
    """

    outputs: Mapping[str, Deviation]
    other_edges: int | None
    evaluations: int

    @property
    def forces(self) -> float:
        """Mean deviation of forces, meV/Å."""
        return self.outputs["forces"].mean


@dataclass
class _Differences:
    """Lengths of differences and of what is predicted, by output."""

    of: dict[str, list[Tensor]] = field(default_factory=dict)
    sizes: dict[str, list[Tensor]] = field(default_factory=dict)

    def add(self, found: Outputs, expected: Outputs) -> None:
        for name, value in expected.items():
            self.of.setdefault(name, []).append(_lengths(found[name] - value))
            self.sizes.setdefault(name, []).append(_lengths(value))

    def deviations(self) -> dict[str, Deviation]:
        return {name: self._deviation(name) for name in self.of}

    def _deviation(self, name: str) -> Deviation:
        differences, sizes = 1000 * torch.cat(self.of[name]), 1000 * torch.cat(self.sizes[name])
        mean, size = float(differences.mean()), float(sizes.mean())
        relative = None if name == "energy" else mean / size if size else 0.0
        return Deviation(mean, float(differences.max()), relative)


def _lengths(rows: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rows, dim=1).cpu()


def symmetry_error(
    potential: AnyPotential,
    structures: Sequence[Structures],
    drawn: Drawn,
    symmetry: Symmetry,
    *,
    same_edges: bool = False,
    on_evaluation: Callable[[], None] = lambda: None,
) -> SymmetryError:
    """Measure one symmetry.

    Args:
        potential: The model.
        structures: One each, on the model's device.
        drawn: Operations for each structure.
        symmetry: Which; `batch` has no operations, and compares structures in a batch with each for itself.
        same_edges: Whether changed structures get the edges of the structures they were made of, turned, instead of
            those that are found.
        on_evaluation: Called after each evaluation of a changed structure.
    """
    if symmetry == "batch":
        return _batch_error(potential, structures)
    found, others, evaluations = _Differences(), 0, 0
    for structure, of_structure in zip(structures, drawn, strict=True):
        before = evaluated(potential, structure)
        edges = potential.edges(structure) if isinstance(potential, ModelPotential) else None
        for operation in of_structure.get(symmetry, ()):
            changed = operation.structure(structure)
            if isinstance(potential, ModelPotential) and edges is not None:
                expected, there = operation.edges(edges), potential.edges(changed)
                others += different_edges(expected, there)
                batch = potential.batch(changed, expected if same_edges else there)
            else:
                batch = potential.batch(changed)
            found.add(potential.evaluate_batch(batch, potential.properties), operation.outputs(before))
            evaluations += 1
            on_evaluation()
    known = isinstance(potential, ModelPotential)
    return SymmetryError(found.deviations(), others if known else None, evaluations)


def _batch_error(potential: AnyPotential, structures: Sequence[Structures]) -> SymmetryError:
    singles = iter(evaluated(potential, one) for one in structures)
    found = _Differences()
    for batch in batches(potential, structures, Budget()):
        alone = [next(singles) for _ in range(len(batch))]
        expected = {name: torch.cat([one[name] for one in alone]) for name in alone[0]}
        found.add(evaluated(potential, batch), expected)
    return SymmetryError(found.deviations(), 0 if isinstance(potential, ModelPotential) else None, len(structures))


def evaluated(potential: AnyPotential, structures: Structures) -> dict[str, Tensor]:
    """All that the model predicts, eV and Å, [structures or atoms, width]."""
    return potential.evaluate(structures, potential.properties)


def is_repeatable(potential: AnyPotential, structures: Iterable[Structures]) -> bool:
    """Whether a second evaluation gives the same bits."""
    for one in structures:
        first, second = evaluated(potential, one), evaluated(potential, one)
        if not all(torch.equal(first[name], second[name]) for name in first):
            return False
    return True
