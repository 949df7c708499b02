"""Neighbours within a cutoff, with every system's own cell and periodicity.

At 12 Å a metal atom has some 600 neighbours, of which a model keeps 20. So the nearest few are asked for first, and
again more of them where the answer could still change; all within the cutoff are looked at only where that is few.
The edges are those of `all_pairs` in each case, whichever search finds them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ev2_plugin.graph.all_pairs import all_pairs
from ev2_plugin.graph.candidates import Candidates, Search, search_until, squared_distances
from ev2_plugin.graph.cell_list import cell_list_search
from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.graph.kd_tree import kd_tree_search
from ev2_plugin.graph.neighbor_limit import COINCIDENT, NeighborRule, nearest, refuse_coincident
from ev2_plugin.graph.periodic import Copies, PeriodicSystems, combination, copies_within, periodic_systems
from ev2_plugin.graph.structure_error import StructureError, place_of_atom

__all__ = ["COINCIDENT", "NeighborRule", "SearchMethod", "check_finite", "radius_graph"]

SearchMethod = Literal["auto", "all_pairs", "kd_tree", "cell_list"]

SPARE = 12
"""Neighbours asked for beyond the limit at first: those that follow show that the limit was reached."""

FIRST_WIDTH = 256
"""Most neighbours asked for at first, however large the limit."""


def radius_graph(
    positions: Float[Tensor, "atoms 3"],
    cells: Float[Tensor, "systems 3 3"],
    pbc: Bool[Tensor, "systems 3"],
    natoms: Int[Tensor, " systems"],
    rule: NeighborRule,
    method: SearchMethod = "auto",
) -> EdgeGraph:
    """Edges of a batch of systems, periodic each in its own directions.

    Args:
        positions: Positions in Å; atoms may lie outside their cell.
        cells: Lattice vectors as rows, in Å; rows of directions that are not periodic are not used.
        pbc: Periodic directions of each system.
        natoms: Atoms of each system, in the order of `positions`.
        rule: Cutoff and neighbour limit.
        method: `all_pairs`, the plain form; `kd_tree`, on the CPU; `cell_list`, on any device; `auto`, the faster of
            the last two. The edges are the same.

    Returns:
        Edges sorted by receiver; a receiver's edges come in the order of sender, then periodic image.

    Raises:
        StructureError: If a position is not finite, a periodic cell is singular, or two atoms coincide.
        ValueError: If the method does not serve the device.
    """
    if int(natoms.sum()) != len(positions):
        raise ValueError(f"natoms adds up to {int(natoms.sum())} atoms, but there are {len(positions)} positions")
    check_finite(positions, natoms)
    systems = periodic_systems(positions, cells, pbc, natoms, rule.cutoff)
    with torch.no_grad():
        if method == "all_pairs" or not len(positions):
            receivers, senders, image = all_pairs(systems, rule)
        else:
            receivers, senders, image = _searched(systems, rule, search_form(method, positions.device))
    translation = systems.images[image] - systems.home[senders] + systems.home[receivers]
    offsets = combination(translation, systems.lattices[systems.system[receivers]])
    vectors = positions[senders] - positions[receivers] + offsets
    return EdgeGraph(senders, receivers, vectors, len(positions))


def check_finite(positions: Float[Tensor, "atoms 3"], natoms: Int[Tensor, " systems"]) -> None:
    """Refuse positions that are no numbers.

    Args:
        positions: Positions in Å.
        natoms: Atoms of each system.

    Raises:
        StructureError: Naming the first such atom.
    """
    finite = torch.isfinite(positions).all(dim=-1)
    if not finite.all():
        first = int((~finite).nonzero()[0])
        system, atom = place_of_atom(first, natoms)
        where = positions[first].tolist()
        raise StructureError(system, f"position of atom {atom} is {where}: positions must be finite numbers (Å)")


def search_form(method: SearchMethod, device: torch.device) -> Callable[[PeriodicSystems, Copies, float], Search]:
    """What makes a search by that method.

    Raises:
        ValueError: If the method does not serve the device.
    """
    if method == "cell_list" or (method == "auto" and device.type != "cpu"):
        return cell_list_search
    if device.type != "cpu":
        raise ValueError(f"the k-d tree searches on the CPU, the positions are on {device}: use method='cell_list'")
    return kd_tree_search


def _searched(
    systems: PeriodicSystems, rule: NeighborRule, form: Callable[[PeriodicSystems, Copies, float], Search]
) -> tuple[Tensor, Tensor, Tensor]:
    """Receivers, senders and images of all edges, in this order ascending."""
    copies = copies_within(systems, rule.cutoff)
    search = form(systems, copies, rule.cutoff)
    parts: list[tuple[Tensor, Tensor]] = []

    def examine(found: Candidates) -> Tensor:
        squared = squared_distances(found, systems.wrapped, copies, rule.cutoff)
        row, place = (squared <= COINCIDENT**2).nonzero(as_tuple=True)
        senders = copies.atom[found.copies[row, place]]
        refuse_coincident(squared[row, place], found.receivers[row], senders, systems.system)
        kept, last = nearest(squared, rule)
        done = (last < found.complete) | torch.isinf(found.complete)
        row, place = (kept & done.unsqueeze(1)).nonzero(as_tuple=True)
        parts.append((found.receivers[row], found.copies[row, place]))
        return done

    everyone = torch.arange(len(systems.wrapped), device=systems.wrapped.device)
    search_until(search, everyone, min(1 + rule.max_neighbors + SPARE, FIRST_WIDTH), examine)
    receivers, members = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    order = torch.argsort(receivers, stable=True)
    receivers, members = receivers[order], members[order]
    return receivers, copies.atom[members], copies.image[members]
