"""Limited-memory BFGS for many structures at once, each with a history of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ev2_plugin.relax.optimizer import Memory
from ev2_plugin.relax.per_structure import Segments, segments
from ev2_plugin.relax.positive import require_positive

NO_MOVE = 1e-7
"""A structure none of whose coordinates would move by this much (Å) stays where it is, and so does its history."""

LENGTH_OFFSET = 1e-7
"""Å; keeps the scale of a step of length 0 finite, as in the host."""


@dataclass(frozen=True)
class LBFGS:
    """L-BFGS with the host's step rules. All arithmetic is in float64.

    Pairs of displacements s and force differences y are kept newest first; places that are still empty hold zeros,
    which drop out of both loops. A pair without curvature (y·s = 0) is left out; the host divides by it.

    Args:
        maxstep: Longest way that an atom goes in a step, before damping [Å].
        memory: Pairs kept.
        damping: Factor on each step.
        alpha: First guess of the curvature [eV/Å^2].

    Raises:
        ValueError: If a setting is not positive.

    Source: Nocedal & Wright, Numerical Optimization, algorithm 7.4; step rules of fairchem `LBFGS` (lbfgs_torch.py).
    """

    maxstep: float = 0.04
    memory: int = 50
    damping: float = 1.0
    alpha: float = 70.0

    def __post_init__(self) -> None:
        require_positive(self)

    def start(self, natoms: Int[Tensor, " structures"]) -> Memory:
        """Empty histories."""
        atoms, device = int(natoms.sum()), natoms.device
        vectors = torch.zeros(atoms, self.memory, 3, dtype=torch.float64, device=device)
        origin = torch.zeros(atoms, 3, dtype=torch.float64, device=device)
        curvature = torch.zeros(len(natoms), self.memory, dtype=torch.float64, device=device)
        moved = torch.zeros(len(natoms), dtype=torch.long, device=device)
        return Memory(
            {"s": vectors, "y": vectors.clone(), "positions": origin, "forces": origin.clone()},
            {"rho": curvature, "pairs": moved.clone(), "moved": moved},
        )

    def step(
        self,
        memory: Memory,
        positions: Float[Tensor, "atoms 3"],
        forces: Float[Tensor, "atoms 3"],
        natoms: Int[Tensor, " structures"],
    ) -> tuple[Tensor, Memory]:
        """Displacements in Å and the memory after them."""
        of = segments(natoms, len(positions))
        s, y, rho, pairs = self._remember(memory, positions, forces, of)
        direction = two_loops(s, y, rho, forces, of, int(pairs.max()), 1 / self.alpha)
        displacement = self._bounded(direction, of)
        moves = of.largest(displacement.abs().amax(dim=-1)) >= NO_MOVE
        moving = of.spread(moves)
        of_atoms = {
            "s": s,
            "y": y,
            "positions": torch.where(moving, positions, memory.of_atoms["positions"]),
            "forces": torch.where(moving, forces, memory.of_atoms["forces"]),
        }
        moved = memory.of_structures["moved"] | moves.long()
        return displacement * moving, Memory(of_atoms, {"rho": rho, "pairs": pairs, "moved": moved})

    def _remember(
        self, memory: Memory, positions: Tensor, forces: Tensor, of: Segments
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Put the newest pair in front of the others; structures that have not moved yet get an empty one."""
        old, moved = memory.of_atoms, memory.of_structures["moved"]
        s = (positions - old["positions"]) * of.spread(moved)
        y = (old["forces"] - forces) * of.spread(moved)
        curvature = of.dot(y, s)
        rho = torch.where(curvature == 0, 0, 1 / curvature)
        pairs = (memory.of_structures["pairs"] + moved).clamp(max=self.memory)
        return (
            torch.cat((s.unsqueeze(1), old["s"][:, :-1]), dim=1),
            torch.cat((y.unsqueeze(1), old["y"][:, :-1]), dim=1),
            torch.cat((rho.unsqueeze(1), memory.of_structures["rho"][:, :-1]), dim=1),
            pairs,
        )

    def _bounded(self, direction: Tensor, of: Segments) -> Tensor:
        """Scale each structure's step so that no atom goes further than `maxstep`, then damp it."""
        longest = of.largest(torch.linalg.vector_norm(direction, dim=-1))
        scale = longest.clamp(max=self.maxstep) / (longest + LENGTH_OFFSET)
        return direction * of.spread(scale) * self.damping


def two_loops(
    s: Float[Tensor, "atoms memory 3"],
    y: Float[Tensor, "atoms memory 3"],
    rho: Float[Tensor, "structures memory"],
    forces: Float[Tensor, "atoms 3"],
    of: Segments,
    pairs: int,
    first_guess: float,
) -> Float[Tensor, "atoms 3"]:
    """Inverse Hessian of each structure's history times its forces, newest pair first in memory.

    Args:
        s: Displacements in Å.
        y: Changes of the gradient in eV/Å.
        rho: 1 / (y·s), 0 where there is no pair.
        forces: eV/Å.
        of: Which atoms belong to which structure.
        pairs: How many pairs the longest history holds.
        first_guess: Inverse Hessian without any history, times the unit matrix [Å^2/eV].
    """
    q = forces
    weights = []
    for pair in range(pairs):
        weights.append(rho[:, pair] * of.dot(s[:, pair], q))
        q = q - of.spread(weights[-1]) * y[:, pair]
    z = first_guess * q
    for pair in reversed(range(pairs)):
        beta = rho[:, pair] * of.dot(y[:, pair], z)
        z = z + s[:, pair] * of.spread(weights[pair] - beta)
    return z
