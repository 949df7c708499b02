"""Nearest copies on any device, by cells: sorted columns of square cross-section, in plain PyTorch.

The copies are sorted by system, column and height. Those within a radius of a point lie in the 3 x 3 columns around
it, in each in one stretch of heights, whose length follows from the distance to the column. A stretch is found by
two binary searches; there are no hash tables, atomics or kernels, and the same code runs on CPU and GPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Int
from torch import Tensor

from ev2_plugin.graph.candidates import MEMBERS, Candidates, Search
from ev2_plugin.graph.periodic import Copies, PeriodicSystems, squared_norm

COLUMNS = 1 << 14
"""Columns along an axis; beyond, they are counted from 0 again, which adds candidates and loses none."""

HEIGHTS = 1 << 20
"""Finest division of the height."""

CUBE = 4.0
"""Edge (Å) of the cubes in which the density is counted."""


def cell_list_search(systems: PeriodicSystems, copies: Copies, cutoff: float) -> Search:
    """A search for the copies within a radius that grows with the number of neighbours asked for.

    Args:
        systems: Wrapped atoms.
        copies: Their periodic copies.
        cutoff: Largest distance in Å.
    """
    density = local_density(systems)
    points, owners = copies.points.double(), systems.system[copies.atom]

    def search(receivers: Int[Tensor, " receivers"], width: int) -> Iterator[Candidates]:
        radius = (3 * width / (4 * math.pi * density)) ** (1 / 3)
        radius = min(radius, cutoff) if radius < 0.9 * cutoff else cutoff
        yield from _within(systems, copies, points, owners, receivers, radius, radius == cutoff)

    return search


def local_density(systems: PeriodicSystems) -> float:
    """Atoms per Å^3 as a typical atom sees it: the mean over atoms of the occupation of their cube."""
    cubes = torch.cat((systems.system.unsqueeze(1), torch.floor(systems.wrapped / CUBE).long()), dim=1)
    occupation = torch.unique(cubes, dim=0, return_counts=True)[1].double()
    return float(occupation.square().sum() / occupation.sum()) / CUBE**3


def _within(
    systems: PeriodicSystems,
    copies: Copies,
    points: Tensor,
    owners: Tensor,
    receivers: Tensor,
    radius: float,
    whole: bool,
) -> Iterator[Candidates]:
    """All copies within the radius of each receiver, in groups of receivers."""
    side = radius * (1 + 16 * torch.finfo(systems.wrapped.dtype).eps)
    corner, top = points.amin(dim=0), points.amax(dim=0)
    step = max(side / 64, float(top[2] - corner[2]) / (HEIGHTS - 2))

    def column(system: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return ((system * COLUMNS + x % COLUMNS) * COLUMNS + y % COLUMNS) * HEIGHTS

    def height(z: Tensor) -> Tensor:
        return torch.floor((z - corner[2]) / step).clamp(0, HEIGHTS - 1).long()

    place = torch.floor((points[:, :2] - corner[:2]) / side).long()
    keys, order = torch.sort(column(owners, place[:, 0], place[:, 1]) + height(points[:, 2]))

    centres = systems.wrapped[receivers].double()
    inside = (centres[:, :2] - corner[:2]) / side
    place = torch.floor(inside).long()
    inside = inside - place
    steps = torch.tensor([-1, 0, 1], device=points.device)
    gaps = side * torch.stack((inside, torch.zeros_like(inside), 1 - inside), dim=-1)  # [receivers, 2, 3] to columns
    half = side**2 - gaps[:, 0, :, None].square() - gaps[:, 1, None, :].square()  # [receivers, 3, 3]
    beyond = half < 0
    half = half.clamp(min=0).sqrt()
    columns = column(
        systems.system[receivers].view(-1, 1, 1),
        place[:, 0, None, None] + steps[:, None],
        place[:, 1, None, None] + steps,
    )
    z = centres[:, 2].view(-1, 1, 1)
    first = torch.searchsorted(keys, columns + height(z - half)).flatten(1)
    last = torch.searchsorted(keys, columns + height(z + half), right=True).flatten(1)
    counts = (last - first).masked_fill(beyond.flatten(1), 0)

    for group in _groups(counts.sum(dim=1)):
        count = counts[group].flatten()
        total = int(count.sum())
        begin = first[group].flatten() - (count.cumsum(0) - count)
        position = torch.arange(total, device=points.device)
        position += torch.repeat_interleave(begin, count, output_size=total)
        here = receivers[group]
        row = torch.arange(len(here), device=points.device)
        row = torch.repeat_interleave(row, counts[group].sum(dim=1), output_size=total)
        member = order[position]
        near = squared_norm(copies.points[member] - systems.wrapped[here[row]]) <= radius**2
        rows = _rows(row[near], member[near], len(here), len(points))
        complete = torch.inf if whole else radius**2
        yield Candidates(here, rows, torch.full((len(here),), complete).to(systems.wrapped))


def _groups(counts: Tensor) -> Iterator[slice]:
    """Consecutive receivers with about `MEMBERS` candidates together; at least one receiver each."""
    ends = counts.cumsum(0)
    start, taken = 0, 0
    while start < len(counts):
        stop = max(start + 1, int(torch.searchsorted(ends, taken + MEMBERS, right=True)))
        yield slice(start, stop)
        start, taken = stop, int(ends[stop - 1])


def _rows(row: Tensor, member: Tensor, num_rows: int, missing: int) -> Tensor:
    """Members in ascending rows of equal length, filled up with `missing`."""
    count = torch.bincount(row, minlength=num_rows)
    slot = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row]
    rows = torch.full((num_rows, int(count.max())), missing, device=row.device)
    rows[row, slot] = member
    return rows.sort(dim=1).values
