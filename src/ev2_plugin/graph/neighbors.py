"""Neighbours within a cutoff, with every system's own cell and periodicity.

All pairs of a system are compared, so the cost grows with the square of its atoms; systems do not see each
other. The choice among too many neighbours is the host's (fairchem `get_max_neighbors_mask`), except that equal
distances are taken in the order of sender, then periodic image, the same way every time. Distances that are equal
by symmetry differ by rounding, though: which of them a strict limit keeps is arbitrary, here as there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ev2_plugin.graph.edge_graph import EdgeGraph

COINCIDENT = 0.01
"""Two atoms closer than this (Å) are one atom written twice; the host drops such pairs silently."""

TIE_TOLERANCE = 0.01
"""Added to the *squared* distance (Å^2) of the first neighbour beyond the limit when ties are kept."""


@dataclass(frozen=True)
class NeighborRule:
    """Which pairs become edges.

    Args:
        cutoff: Largest distance in Å.
        max_neighbors: Nearest senders kept per receiver.
        strict: Keep exactly `max_neighbors`; otherwise all that are as near as the first one left out, to
            within `TIE_TOLERANCE` (OC22 and OMat24 settings).

    Raises:
        ValueError: If a number is not positive.
    """

    cutoff: float
    max_neighbors: int
    strict: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.cutoff < math.inf:
            raise ValueError(f"the cutoff (max_radius) must be a positive distance in Å, got {self.cutoff}")
        if self.max_neighbors < 1:
            raise ValueError(f"max_neighbors must be at least 1, got {self.max_neighbors}")


def radius_graph(
    positions: Float[Tensor, "atoms 3"],
    cells: Float[Tensor, "systems 3 3"],
    pbc: Bool[Tensor, "systems 3"],
    natoms: Int[Tensor, " systems"],
    rule: NeighborRule,
) -> EdgeGraph:
    """Edges of a batch of systems, periodic each in its own directions.

    Args:
        positions: Positions in Å; atoms may lie outside their cell.
        cells: Lattice vectors as rows, in Å; rows of directions that are not periodic are not used.
        pbc: Periodic directions of each system.
        natoms: Atoms of each system, in the order of `positions`.
        rule: Cutoff and neighbour limit.

    Returns:
        Edges sorted by receiver; a receiver's edges come in the order of sender, then periodic image.

    Raises:
        ValueError: If a position is not finite, a periodic cell is singular or two atoms coincide.
    """
    check_finite(positions)
    sizes = natoms.tolist()
    parts, start = [], 0
    with torch.autocast(positions.device.type, enabled=False):  # distances are geometry, not features
        for system, (size, periodic) in enumerate(zip(sizes, pbc.tolist(), strict=True)):
            here = slice(start, start + size)
            lattice = _lattice(cells[system], periodic, system)
            parts.append(_system_edges(positions[here], lattice, periodic, rule, system, start))
            start += size
    if start != len(positions):
        raise ValueError(f"natoms adds up to {start} atoms, but there are {len(positions)} positions")
    senders, receivers, offsets = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    vectors = positions[senders] - positions[receivers] + offsets
    return EdgeGraph(senders, receivers, vectors, start)


def check_finite(positions: Float[Tensor, "atoms 3"]) -> None:
    """Refuse positions that are no numbers.

    Raises:
        ValueError: Naming the first such atom.
    """
    finite = torch.isfinite(positions).all(dim=-1)
    if not finite.all():
        atom = int((~finite).nonzero()[0])
        raise ValueError(f"position of atom {atom} is {positions[atom].tolist()}: positions must be finite numbers (Å)")


def _lattice(cell: Tensor, periodic: list[bool], system: int) -> Tensor:
    """The cell with the rows that are not periodic replaced by unit vectors that complete a basis."""
    if not any(periodic):
        return torch.eye(3, dtype=cell.dtype, device=cell.device)
    rows = cell.double()
    if not all(periodic):
        keep = torch.tensor(periodic, device=cell.device)
        # right singular vectors beyond the rank of the periodic rows are orthogonal to all of them
        _, _, right = torch.linalg.svd(rows[keep])
        rows = rows.clone()
        rows[~keep] = right[sum(periodic) :]
    volume, scale = torch.linalg.det(rows).abs(), torch.linalg.vector_norm(rows, dim=-1).prod()
    if not volume > 1e-6 * scale:  # also true for NaN
        raise ValueError(
            f"cell of system {system} is singular for its periodic directions {periodic}: {cell.tolist()}; "
            "give linearly independent lattice vectors (Å) or switch periodicity off"
        )
    return rows.to(cell.dtype)


def _system_edges(
    positions: Tensor, lattice: Tensor, periodic: list[bool], rule: NeighborRule, system: int, start: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Senders, receivers (both counted from `start`) and lattice offsets of one system's edges."""
    inverse = torch.linalg.inv(lattice)
    mask = torch.tensor(periodic, device=positions.device)
    home = torch.where(mask, torch.floor(positions @ inverse), 0)  # [atoms, 3] the cell each atom lies in
    wrapped = positions - home @ lattice

    # |n + difference of fractional coordinates| <= cutoff * |reciprocal vector| bounds the images along each axis
    reach = torch.ceil(rule.cutoff * torch.linalg.vector_norm(inverse, dim=0)).long().tolist()
    ranges = [range(-r, r + 1) if p else range(1) for r, p in zip(reach, periodic, strict=True)]
    images = torch.cartesian_prod(*(torch.tensor(list(r), device=positions.device) for r in ranges))
    images = images.to(positions.dtype).view(-1, 3)

    shifted = wrapped.unsqueeze(1) + images @ lattice  # [atoms, images, 3]
    squared = (shifted.unsqueeze(0) - wrapped.view(-1, 1, 1, 3)).square().sum(dim=-1)  # [receivers, senders, images]
    within = squared <= rule.cutoff**2
    receivers, senders, image = within.nonzero(as_tuple=True)
    squared = squared[within]

    itself = (receivers == senders) & (images[image] == 0).all(dim=-1)
    coincident = (squared <= COINCIDENT**2) & ~itself
    if coincident.any():
        first = int(coincident.nonzero()[0])
        raise ValueError(
            f"atoms {int(senders[first]) + start} and {int(receivers[first]) + start} of system {system} are "
            f"{float(squared[first]) ** 0.5:.4f} Å apart (periodic images included): atoms must not coincide"
        )
    kept = _nearest(receivers, squared, len(positions), rule, ~itself)
    receivers, senders, image = receivers[kept], senders[kept], image[kept]
    offsets = (images[image] - home[senders] + home[receivers]) @ lattice
    return senders + start, receivers + start, offsets


def _nearest(receivers: Tensor, squared: Tensor, num_nodes: int, rule: NeighborRule, candidates: Tensor) -> Tensor:
    """Indices of the edges within the neighbour limit, in their given order."""
    index = candidates.nonzero().squeeze(-1)
    receivers, squared = receivers[index], squared[index]
    by_distance = torch.argsort(squared, stable=True)
    by_distance = by_distance[torch.argsort(receivers[by_distance], stable=True)]
    nodes = torch.arange(num_nodes + 1, device=receivers.device)
    first = torch.searchsorted(receivers, nodes)
    rank = torch.empty_like(by_distance)
    rank[by_distance] = torch.arange(len(index), device=receivers.device) - first[receivers]
    if rule.strict:
        return index[rank < rule.max_neighbors]
    beyond = torch.full((num_nodes,), torch.inf, dtype=squared.dtype, device=squared.device)
    limit = rank == rule.max_neighbors  # the first neighbour that a strict limit would leave out
    beyond[receivers[limit]] = squared[limit]
    return index[squared <= beyond[receivers] + TIE_TOLERANCE]
