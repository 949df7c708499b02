"""Edges of atoms that move a little from call to call, from candidates found before; the same edges to the last bit.

A search finds, around every atom, all copies up to D, a skin beyond the distance that decides about its edges: that of
the last neighbour within the limit, or the cutoff where there are fewer. Since then this atom has moved by d and the
others of its structure by at most d_max, so every copy nearer than D - d - d_max is still among the candidates. If the
distance that decides now is below that, or all of the cutoff is, the candidates give the edges that a new search would
give. Structures with an atom for which it is not are searched again.
"""

from __future__ import annotations

from collections import deque

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.graph.kept_candidates import KeptCandidates, find_candidates, join_kept, rows_of
from ev2_plugin.graph.kept_edges import Geometry, edges_from_candidates
from ev2_plugin.graph.neighbor_limit import NeighborRule
from ev2_plugin.graph.neighbors import check_finite
from ev2_plugin.graph.structure_error import StructureError

AHEAD = 64
"""Batches of which the candidates are kept although they were only counted."""


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
            StructureError: As `radius_graph` does.
        """
        graph, self.present = self._graph(batch)
        self.ahead.clear()
        return graph

    def count(self, batch: Geometry) -> list[int]:
        """Edges of each structure; what is found serves the next batch if it has these structures.

        Raises:
            StructureError: As `radius_graph` does.
        """
        graph, kept = self._graph(batch)
        self.ahead.append(kept)
        return edges_of_structures(graph, batch.natoms)

    @torch.no_grad()
    def _graph(self, batch: Geometry) -> tuple[EdgeGraph, KeptCandidates]:
        if int(batch.natoms.sum()) != len(batch.positions):
            raise ValueError(
                f"natoms adds up to {int(batch.natoms.sum())} atoms, but there are {len(batch.positions)} positions"
            )
        check_finite(batch.positions, batch.natoms)
        kept, fresh = self._known(batch)
        while True:
            edges = edges_from_candidates(batch, kept, self.rule, fresh)
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
        try:
            return find_candidates(part.ids, part.positions, part.cells, part.pbc, part.natoms, self.rule, self.skin)
        except StructureError as error:
            raise StructureError(which[error.place], error.fault) from error


def edges_of_structures(graph: EdgeGraph, natoms: Int[Tensor, " structures"]) -> list[int]:
    """Edges whose receiver is in each structure."""
    ends = F.pad(natoms.cumsum(0), (1, 0))
    return graph.row_pointers[ends].diff().tolist()


def _fits(kept: KeptCandidates, batch: Geometry) -> bool:
    there, here = kept.atoms.positions, batch.positions
    return (there.device, there.dtype) == (here.device, here.dtype)


def _select(batch: Geometry, which: list[int]) -> Geometry:
    chosen = torch.tensor(which, dtype=torch.long, device=batch.natoms.device)
    natoms = batch.natoms[chosen]
    rows = rows_of(batch.natoms, chosen, int(natoms.sum()))
    ids = tuple(batch.ids[index] for index in which)
    return Geometry(ids, batch.positions[rows], batch.cells[chosen], batch.pbc[chosen], natoms)
