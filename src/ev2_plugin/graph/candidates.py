"""What a neighbour search hands over: for every receiver the periodic copies that are nearest to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ev2_plugin.graph.periodic import Copies, squared_norm

MEMBERS = 1 << 19
"""Candidates held at once: a search hands its receivers over in groups of about this many."""


@dataclass(frozen=True)
class Candidates:
    """Copies around some receivers.

    Attributes:
        receivers: Atoms, ascending, [receivers].
        copies: Copies around each, ascending, filled up with the number of all copies, [receivers, candidates].
        complete: Every copy nearer than this is among the candidates; squared distance in Å^2, infinite if they are
            all within the cutoff, [receivers].
    """

    receivers: Tensor
    copies: Tensor
    complete: Tensor


Search = Callable[[Int[Tensor, " receivers"], int], Iterator[Candidates]]
"""Receivers and a number of neighbours, to candidates; the number is aimed at, only `complete` is promised.

A larger number must reach further for each receiver that is not complete.
"""


def search_until(
    search: Search,
    receivers: Int[Tensor, " receivers"],
    width: int,
    examine: Callable[[Candidates], Bool[Tensor, " receivers"]],
) -> None:
    """Search for ever more neighbours of the receivers that are not done.

    Args:
        search: A search.
        receivers: Atoms, ascending.
        width: Neighbours asked for at first.
        examine: Takes candidates and says for which receivers they suffice.
    """
    while len(receivers):
        again = [found.receivers[~examine(found)] for found in search(receivers, width)]
        receivers, width = torch.cat(again), 2 * width


def squared_distances(
    found: Candidates, wrapped: Float[Tensor, "atoms 3"], copies: Copies, cutoff: float
) -> Float[Tensor, "receivers candidates"]:
    """Squared distances in Å^2 in the precision of the positions; infinite beyond the cutoff and without a candidate.

    Args:
        found: Candidates.
        wrapped: Positions within the cells in Å.
        copies: What the candidates are counted in.
        cutoff: Largest distance in Å.
    """
    missing = found.copies == len(copies.points)
    points = copies.points[found.copies.masked_fill(missing, 0)]
    squared = squared_norm(points - wrapped[found.receivers].unsqueeze(1))
    itself = found.copies == copies.own[found.receivers].unsqueeze(1)
    return squared.masked_fill(missing | itself | ~(squared <= cutoff**2), torch.inf)
