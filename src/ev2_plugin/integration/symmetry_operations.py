"""What may be done to a structure without changing its physics, and what becomes of energies, forces and edges then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ev2_plugin.graph.edge_graph import EdgeGraph, sort_by_receiver
from ev2_plugin.potential.structures import Structures

Symmetry = Literal["rotation", "improper rotation", "translation", "permutation", "periodic images", "batch"]

FARTHEST = 10.0
"""Å by which structures are shifted at most along each axis."""


@dataclass(frozen=True)
class Operation:
    """One change of one structure, in this order: its atoms are sorted anew, turned and shifted.

    Attributes:
        order: Which of the old atoms each of the new ones is, [atoms].
        matrix: Orthogonal matrix that turns vectors and cell, float64, [3, 3].
        shift: Å, [atoms, 3].
    """

    order: Tensor
    matrix: Tensor
    shift: Tensor

    def structure(self, structure: Structures) -> Structures:
        """The changed structure."""
        turn = self.matrix.T.to(structure.positions)
        return replace(
            structure,
            atomic_numbers=structure.atomic_numbers[self.order],
            positions=structure.positions[self.order] @ turn + self.shift,
            cells=structure.cells @ turn,
            fixed=structure.fixed[self.order],
            tags=structure.tags[self.order],
        )

    def edges(self, edges: EdgeGraph) -> EdgeGraph:
        """The same edges of the changed structure, without searching for them."""
        place = torch.argsort(self.order)
        vectors = edges.vectors @ self.matrix.T.to(edges.vectors)
        return sort_by_receiver(place[edges.senders], place[edges.receivers], vectors, edges.num_nodes)

    def outputs(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What energy, forces and stress become."""
        changed = {"energy": outputs["energy"], "forces": outputs["forces"][self.order] @ self.matrix.T}
        if "stress" in outputs:
            stress = outputs["stress"].reshape(-1, 3, 3)
            changed["stress"] = (self.matrix @ stress @ self.matrix.T).reshape(outputs["stress"].shape)
        return changed


def operations(structure: Structures, seed: int, rotations: int, others: int) -> dict[Symmetry, list[Operation]]:
    """Operations drawn for one structure.

    Args:
        structure: One structure.
        seed: The same seed gives the same operations.
        rotations: How many rotations, and how many improper ones.
        others: How many of every other kind.

    Returns:
        By symmetry; without `periodic images` for a structure that is not periodic.
    """
    draw, device = torch.Generator().manual_seed(seed), structure.positions.device
    atoms = len(structure.positions)
    stay, still = torch.arange(atoms), torch.zeros(atoms, 3, dtype=torch.float64)
    unturned = torch.eye(3, dtype=torch.float64)

    def made(order: Tensor = stay, matrix: Tensor = unturned, shift: Tensor = still) -> Operation:
        return Operation(order.to(device), matrix.to(device), shift.to(device))

    turns = [random_rotation(draw) for _ in range(rotations)]
    found: dict[Symmetry, list[Operation]] = {
        "rotation": [made(matrix=turn) for turn in turns],
        "improper rotation": [made(matrix=-turn) for turn in turns],
        "translation": [
            made(shift=FARTHEST * (2 * torch.rand(1, 3, generator=draw, dtype=torch.float64) - 1).expand(atoms, 3))
            for _ in range(others)
        ],
        "permutation": [made(order=torch.randperm(atoms, generator=draw)) for _ in range(others)],
    }
    if structure.pbc.any():
        cell = (structure.cells[0] * structure.pbc[0].unsqueeze(1)).double().cpu()
        steps = [torch.randint(-2, 3, (atoms, 3), generator=draw).double() for _ in range(others)]
        found["periodic images"] = [made(shift=step @ cell) for step in steps]
    return found


def random_rotation(generator: torch.Generator) -> Tensor:
    """A rotation, all equally likely, float64, [3, 3]."""
    q, r = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=generator))
    q = q * r.diagonal().sign()
    return q * torch.linalg.det(q)


def different_edges(one: EdgeGraph, other: EdgeGraph) -> int:
    """How many edges of the first graph the second lacks: other pairs of atoms, or vectors that differ (Å)."""
    same = (one.receivers.unsqueeze(1) == other.receivers) & (one.senders.unsqueeze(1) == other.senders)
    same &= torch.cdist(one.vectors.double(), other.vectors.double()) < 1e-4
    return int((~same.any(dim=1)).sum())
