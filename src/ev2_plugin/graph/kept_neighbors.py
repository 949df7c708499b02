"""Edges of atoms that move a little from call to call, from candidates found before; the same edges to the last bit.

A search finds, around every atom, all copies up to D, a skin beyond the distance that decides about its edges: that of
the last neighbour within the limit, or the cutoff where there are fewer. Since then this atom has moved by d and the
others of its structure by at most d_max, so every copy nearer than D - d - d_max is still among the candidates. If the
distance that decides now is below that, or all of the cutoff is, the candidates give the edges that a new search would
give. Structures with an atom for which it is not are searched again.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from ev2_plugin.graph.candidates import MEMBERS
from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.graph.kept_candidates import KeptCandidates, OfAtoms, find_candidates, join_kept, rows_of
from ev2_plugin.graph.neighbor_limit import COINCIDENT, NeighborRule, nearest, refuse_coincident
from ev2_plugin.graph.neighbors import check_finite
from ev2_plugin.graph.periodic import combination, squared_norm, wrap

AHEAD = 64
"""Batches of which the candidates are kept although they were only counted."""

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


class KeptNeighbors:
    """Neighbour search for batches whose structures come and go and whose atoms move.

    What is kept is kept by name, and used only where cell, periodicity and number of atoms are the same: names decide
    about time, never about edges. Of structures that are no longer in the batch nothing is kept.

    Args:
        rule: Cutoff and neighbour limit.
        skin: How far beyond what is needed a search looks, in Å.

    Attributes:
        searched: Structures that were searched for.
        reused: Structures whose edges came from candidates found before.

    Raises:
        ValueError: If the skin is not positive.
    """

    def __init__(self, rule: NeighborRule, skin: float = 0.5) -> None:
        if not skin > 0:
            raise ValueError(f"the skin must be a positive distance in Å, got {skin}")
        self.rule, self.skin = rule, skin
        self.searched, self.reused = 0, 0
        self.present: KeptCandidates | None = None
        self.ahead: deque[KeptCandidates] = deque(maxlen=AHEAD)

    def graph(self, batch: Geometry) -> EdgeGraph:
        """The edges that `radius_graph` finds, for the structures of the batch, which take the place of the last ones.

        Raises:
            ValueError: As `radius_graph` does.
        """
        graph, self.present = self._graph(batch)
        self.ahead.clear()
        return graph

    def count(self, batch: Geometry) -> list[int]:
        """Edges of each structure; what is found serves the next batch if it has these structures.

        Raises:
            ValueError: As `radius_graph` does.
        """
        graph, kept = self._graph(batch)
        self.ahead.append(kept)
        return edges_of_structures(graph, batch.natoms)

    @torch.no_grad()
    def _graph(self, batch: Geometry) -> tuple[EdgeGraph, KeptCandidates]:
        check_finite(batch.positions)
        if int(batch.natoms.sum()) != len(batch.positions):
            raise ValueError(
                f"natoms adds up to {int(batch.natoms.sum())} atoms, but there are {len(batch.positions)} positions"
            )
        kept, fresh = self._known(batch)
        while True:
            edges = _edges(batch, kept, self.rule, fresh)
            if isinstance(edges, EdgeGraph):
                self.searched += len(fresh)
                self.reused += len(batch.ids) - len(fresh)
                return edges, kept
            kept = self._searched_again(batch, kept, edges)
            fresh = sorted({*fresh, *edges})

    def _known(self, batch: Geometry) -> tuple[KeptCandidates, list[int]]:
        """Candidates for all structures, and which of them were searched for just now."""
        wanted = list(zip(batch.ids, batch.natoms.tolist(), strict=True))
        parts = [part for part in (self.present, *self.ahead) if part is not None and _fits(part, batch)]
        if len(parts) == 1 and parts[0].names == wanted:
            return parts[0], []
        places = {one: place for place, one in enumerate(one for part in parts for one in part.names)}
        new = [index for index, one in enumerate(wanted) if one not in places]
        found = [self._search(batch, new)] if new else []
        if len(new) == len(wanted):
            return found[0], new
        known = join_kept([*parts, *found])
        place_of_new = dict(zip(new, range(len(known.ids) - len(new), len(known.ids)), strict=True))
        return known.select(
            [place_of_new[index] if index in place_of_new else places[one] for index, one in enumerate(wanted)]
        ), new

    def _searched_again(self, batch: Geometry, kept: KeptCandidates, which: list[int]) -> KeptCandidates:
        found = self._search(batch, which)
        if len(which) == len(batch.ids):
            return found
        order = list(range(len(batch.ids)))
        for place, index in enumerate(which):
            order[index] = len(order) + place
        return join_kept([kept, found]).select(order)

    def _search(self, batch: Geometry, which: list[int]) -> KeptCandidates:
        part = batch if len(which) == len(batch.ids) else _select(batch, which)
        return find_candidates(part.ids, part.positions, part.cells, part.pbc, part.natoms, self.rule, self.skin)


def edges_of_structures(graph: EdgeGraph, natoms: Int[Tensor, " structures"]) -> list[int]:
    """Edges whose receiver is in each structure."""
    ends = F.pad(natoms.cumsum(0), (1, 0))
    return graph.row_pointers[ends].diff().tolist()


def _edges(batch: Geometry, kept: KeptCandidates, rule: NeighborRule, fresh: list[int]) -> EdgeGraph | list[int]:
    """The edges, or the structures whose candidates do not suffice.

    Args:
        batch: Structures.
        kept: Their candidates.
        rule: Cutoff and neighbour limit.
        fresh: Structures whose candidates were found at these very positions.
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
    rounding = ROUNDING * torch.finfo(moved.dtype).eps * (rule.cutoff + batch.positions.abs().amax())
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


def _fits(kept: KeptCandidates, batch: Geometry) -> bool:
    there, here = kept.atoms.positions, batch.positions
    return (there.device, there.dtype) == (here.device, here.dtype)


def _select(batch: Geometry, which: list[int]) -> Geometry:
    chosen = torch.tensor(which, dtype=torch.long, device=batch.natoms.device)
    natoms = batch.natoms[chosen]
    rows = rows_of(batch.natoms, chosen, int(natoms.sum()))
    ids = tuple(batch.ids[index] for index in which)
    return Geometry(ids, batch.positions[rows], batch.cells[chosen], batch.pbc[chosen], natoms)
