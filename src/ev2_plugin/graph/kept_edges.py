"""Edges of structures at their present positions, from candidates found at others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from ev2_plugin.graph.candidates import MEMBERS
from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.graph.kept_candidates import KeptCandidates, OfAtoms
from ev2_plugin.graph.neighbor_limit import COINCIDENT, NeighborRule, nearest, refuse_coincident
from ev2_plugin.graph.periodic import combination, squared_norm, wrap

ROUNDING = 32
"""Roundings, in units of the largest number, that distances and displacements may be off by."""


@dataclass(frozen=True)
class Geometry:
    """Structures at their present positions.

    Attributes:
        ids: Name of each structure.
        positions: Å, [atoms, 3].
        cells: Lattice vectors as rows in Å, [structures, 3, 3].
        pbc: Periodic directions, [structures, 3].
        natoms: Atoms of each structure, [structures].
    """

    ids: tuple[str, ...]
    positions: Tensor
    cells: Tensor
    pbc: Tensor
    natoms: Tensor


def edges_from_candidates(
    batch: Geometry, kept: KeptCandidates, rule: NeighborRule, fresh: list[int]
) -> EdgeGraph | list[int]:
    """The edges, or the structures whose candidates do not suffice.

    Args:
        batch: Structures.
        kept: Their candidates.
        rule: Cutoff and neighbour limit.
        fresh: Structures whose candidates were found at these very positions.

    Raises:
        ValueError: If two atoms coincide.
    """
    num_atoms, natoms, device = len(batch.positions), batch.natoms, batch.positions.device
    system = torch.repeat_interleave(torch.arange(len(natoms), device=device), natoms, output_size=num_atoms)
    lattices = kept.structures.lattices
    wrapped, home = wrap(batch.positions, lattices[system], kept.structures.inverses[system], batch.pbc[system])
    bound = _complete_up_to(batch, kept, rule, fresh, system)
    atoms = _Wrapped(wrapped, home, system, (natoms.cumsum(0) - natoms)[system], lattices, kept.structures.reach)

    sure, coincident, chosen = [], [], []
    step = max(1, MEMBERS // kept.atoms.senders.shape[1])
    for rows in torch.arange(num_atoms, device=device).split(step):
        squared = atoms.squared_distances(rows, kept.atoms, rule.cutoff)
        near, last = nearest(squared, rule)
        sure.append((last < bound[rows].clamp(min=0).square()) | (bound[rows] > rule.cutoff))
        coincident.append(_places(squared <= COINCIDENT**2, rows, squared))
        chosen.append(_places(near, rows, squared))
    unsure = torch.zeros(len(natoms), dtype=torch.bool, device=device)
    unsure[system[~torch.cat(sure)]] = True
    if again := unsure.nonzero()[:, 0].tolist():
        return again

    receivers, places, squared = (torch.cat(parts) for parts in zip(*coincident, strict=True))
    refuse_coincident(squared, receivers, atoms.senders(receivers, places, kept.atoms), system)
    receivers, places, _ = (torch.cat(parts) for parts in zip(*chosen, strict=True))
    senders = atoms.senders(receivers, places, kept.atoms)
    offsets = combination(kept.atoms.translations[receivers, places], lattices[system[receivers]])
    vectors = batch.positions[senders] - batch.positions[receivers] + offsets
    return EdgeGraph(senders, receivers, vectors, num_atoms)


def _complete_up_to(
    batch: Geometry, kept: KeptCandidates, rule: NeighborRule, fresh: list[int], system: Tensor
) -> Float[Tensor, " atoms"]:
    """Every copy nearer than this (Å) is among the candidates; infinite where they are known to suffice."""
    moved = torch.linalg.vector_norm(batch.positions - kept.atoms.positions, dim=-1)
    furthest = moved.new_zeros(len(batch.natoms)).scatter_reduce(0, system, moved, "amax")
    largest = F.pad(batch.positions.abs().flatten(), (0, 1)).amax()  # padded, because there may be no atoms
    rounding = ROUNDING * torch.finfo(moved.dtype).eps * (rule.cutoff + largest)
    bound = kept.atoms.complete - moved - furthest[system] - rounding
    same = (kept.structures.cells == batch.cells).all(dim=-1).all(dim=-1)
    same &= (kept.structures.pbc == batch.pbc).all(dim=-1)
    at_hand = torch.zeros_like(same)
    at_hand[fresh] = True
    return bound.masked_fill(~same[system], -torch.inf).masked_fill(at_hand[system], torch.inf)


@dataclass(frozen=True)
class _Wrapped:
    """Atoms at their present positions, as `PeriodicSystems` has them; the lattices' rows are structures."""

    wrapped: Tensor
    home: Tensor
    system: Tensor
    first: Tensor
    lattices: Tensor
    reach: Tensor

    def senders(self, receivers: Tensor, places: Tensor, found: OfAtoms) -> Int[Tensor, " pairs"]:
        """Index of the candidates' atoms within the batch."""
        return found.senders[receivers, places] + self.first[receivers]

    def squared_distances(
        self, rows: Int[Tensor, " rows"], found: OfAtoms, cutoff: float
    ) -> Float[Tensor, "rows width"]:
        """Of some atoms' candidates in Å^2, the same bits as a search has them; infinite beyond the cutoff."""
        senders = found.senders[rows] + self.first[rows].unsqueeze(1)
        image = found.translations[rows] + self.home[senders] - self.home[rows].unsqueeze(1)
        points = self.wrapped[senders] + combination(image, self.lattices[self.system[rows]].unsqueeze(1))
        squared = squared_norm(points - self.wrapped[rows].unsqueeze(1))
        missing = torch.arange(senders.shape[1], device=rows.device) >= found.count[rows].unsqueeze(1)
        outside = (image.abs() > self.reach[self.system[rows]].unsqueeze(1)).any(dim=-1)
        return squared.masked_fill(missing | outside | ~(squared <= cutoff**2), torch.inf)


def _places(chosen: Tensor, rows: Tensor, squared: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    row, place = chosen.nonzero(as_tuple=True)
    return rows[row], place, squared[row, place]
