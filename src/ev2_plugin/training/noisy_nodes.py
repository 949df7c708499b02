"""Noisy Nodes: corrupted positions, and what the model is asked to say about them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class NoisyNodes:
    """How structures are corrupted in training.

    Attributes:
        std: Standard deviation of the Gaussian noise per Cartesian component, in Å.
        probability: That a structure is corrupted.
        corrupt_ratio: Probability that a movable atom of such a structure is moved.
        interpolate: First put each moved atom at a random point between its initial and its relaxed position.

    Raises:
        ValueError: If a value is out of range.

    Source: paper, sections D.5 (OC20) and F.2 (QM9); the corruption of OC20 structures is Equiformer v1's.
    """

    std: float
    probability: float
    corrupt_ratio: float = 1.0
    interpolate: bool = False

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ValueError(f"task.noisy_nodes.std must be a positive length in Å, got {self.std!r}")
        for name in ("probability", "corrupt_ratio"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"task.noisy_nodes.{name} must lie in (0, 1], got {getattr(self, name)!r}")


@dataclass(frozen=True)
class Corruption:
    """A corrupted batch.

    Attributes:
        positions: In Å, [atoms, 3].
        noise: The Gaussian part of what was added, in Å, [atoms, 3]; 0 for atoms that were not moved.
        moved: [atoms].
    """

    positions: Tensor
    noise: Tensor
    moved: Tensor


def corrupt(
    positions: Float[Tensor, "atoms 3"],
    movable: Bool[Tensor, " atoms"],
    batch: Int[Tensor, " atoms"],
    settings: NoisyNodes,
    generator: torch.Generator,
    to_relaxed: Float[Tensor, "atoms 3"] | None = None,
) -> Corruption:
    """Move atoms of some structures at random.

    Args:
        positions: In Å.
        movable: Atoms that may move at all.
        batch: Structure of each atom.
        settings: How.
        generator: Source of chance, on the CPU.
        to_relaxed: Displacement from each position to the relaxed one, in Å; for `interpolate`.

    Raises:
        ValueError: If `interpolate` is asked for without `to_relaxed`.
    """
    if settings.interpolate and to_relaxed is None:
        raise ValueError("task.noisy_nodes.interpolate: true needs relaxed positions (pos_relaxed) in the data")
    atoms, num_graphs = len(positions), int(batch.max()) + 1

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator).to(positions)

    chosen = uniform(num_graphs)[batch] < settings.probability
    moved = movable & chosen & (uniform(atoms) < settings.corrupt_ratio)
    gaussian = torch.randn((atoms, 3), generator=generator).to(positions) * settings.std
    noise = torch.where(moved.unsqueeze(1), gaussian, 0.0)
    if to_relaxed is not None and settings.interpolate:
        positions = positions + torch.where(moved.unsqueeze(1), uniform(atoms, 1) * to_relaxed, 0.0)
    return Corruption(positions + noise, noise, moved)


def minimum_image(
    displacements: Float[Tensor, "atoms 3"],
    cells: Float[Tensor, "structures 3 3"],
    pbc: Bool[Tensor, "structures 3"],
    batch: Int[Tensor, " atoms"],
) -> Float[Tensor, "atoms 3"]:
    """Displacements without whole lattice vectors along periodic directions.

    Right for displacements within half of the cell, which a relaxation keeps to; positions that a writer wrapped
    into the cell then do no harm.

    Args:
        displacements: In Å.
        cells: Lattice vectors as rows, in Å.
        pbc: Periodic directions.
        batch: Structure of each atom.
    """
    # a structure that is not periodic may have no cell: any invertible matrix does where nothing is rounded
    identity = torch.eye(3, dtype=cells.dtype, device=cells.device)
    cells = torch.where(pbc.any(dim=1)[:, None, None], cells, identity)[batch]
    fractional = torch.linalg.solve(cells.mT, displacements.unsqueeze(-1)).squeeze(-1)
    whole = torch.where(pbc[batch], fractional.round(), 0.0)
    # no matrix product: autocast would take lattice vectors in half precision
    return displacements - (whole.unsqueeze(-1) * cells).sum(dim=1)
