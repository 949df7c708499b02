"""Which pairs become edges, and the choice among too many neighbours.

The choice is the host's (fairchem `get_max_neighbors_mask`), except that equal distances are taken in the order of
sender, then periodic image, the same way every time. Distances that are equal by symmetry differ by rounding,
though: which of them a strict limit keeps is arbitrary, here as there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ev2_plugin.graph.structure_error import StructureError

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


def nearest(
    squared: Float[Tensor, "receivers candidates"], rule: NeighborRule
) -> tuple[Bool[Tensor, "receivers candidates"], Float[Tensor, " receivers"]]:
    """The candidates within the limit, and up to where a receiver's candidates must be complete for this to be right.

    Args:
        squared: Squared distances in Å^2, infinite where there is no candidate; equal ones are taken from the left.
        rule: Neighbour limit.

    Returns:
        What is kept, and the squared distance that decides: infinite if there are no more candidates than the limit.
    """
    rank = rule.max_neighbors - 1 if rule.strict else rule.max_neighbors
    if rank >= squared.shape[1]:
        return squared < torch.inf, squared.new_full((len(squared),), torch.inf)
    last = torch.topk(squared, rank + 1, dim=1, largest=False).values[:, rank]
    if not rule.strict:
        last = last + TIE_TOLERANCE
        return (squared <= last.unsqueeze(1)) & (squared < torch.inf), last
    nearer, level = squared < last.unsqueeze(1), squared == last.unsqueeze(1)
    room = rule.max_neighbors - nearer.sum(dim=1, keepdim=True)
    return (nearer | (level & (level.cumsum(dim=1) <= room))) & (squared < torch.inf), last


def refuse_coincident(
    squared: Float[Tensor, " pairs"],
    receivers: Int[Tensor, " pairs"],
    senders: Int[Tensor, " pairs"],
    system: Int[Tensor, " atoms"],
) -> None:
    """Refuse atoms that lie on each other.

    Raises:
        StructureError: Naming the first such pair.
    """
    coincident = (squared <= COINCIDENT**2).nonzero()
    if len(coincident):
        pair = coincident[0, 0]
        place = int(system[receivers[pair]])
        first = int((system < place).sum())
        one, other = sorted((int(senders[pair]) - first, int(receivers[pair]) - first))
        raise StructureError(
            place,
            f"atoms {one} and {other} are {float(squared[pair]) ** 0.5:.4f} Å apart (periodic images included): atoms "
            "must not coincide",
        )
