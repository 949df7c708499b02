"""Which atoms of a batch a process computes, and what it needs of the processes that compute the others.

Layers ask the share and do not know how many processes there are. `AtomShare` is that of a process on its own: it has
all atoms, and asking costs nothing. `GroupShare` is that of one process of several.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.nn.collectives import gather_rows, sum_over_group


class AtomShare:
    """All atoms."""

    def own_edges(self, graph: EdgeGraph) -> EdgeGraph:
        """The edges of the batch at hand, with receivers counted from the first own atom."""
        return graph

    def own(self, rows: Tensor) -> Tensor:
        """Own rows of what there is for every atom, [atoms, ...] -> [own, ...]."""
        return rows

    def own_counts(self, natoms: Int[Tensor, " structures"]) -> Int[Tensor, " structures"]:
        """Own atoms of each structure."""
        return natoms

    def gather(self, rows: Float[Tensor, "own ..."]) -> Float[Tensor, "atoms ..."]:
        """Rows of all atoms; differentiable."""
        return rows

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the processes that share the atoms; differentiable."""
        return values

    def agree(self, values: Tensor) -> Tensor:
        """The same random numbers on all processes that share the atoms: those of the first."""
        return values


ALL_ATOMS = AtomShare()


@dataclass(frozen=True)
class GroupShare(AtomShare):
    """Consecutive atoms, those of one process of a group.

    Attributes:
        group: The processes that share the batch.
        bounds: The first atom of each process, and the number of atoms; processes may have none.
        edges: The edges into own atoms, receivers counted from the first of them.
    """

    group: dist.ProcessGroup
    bounds: tuple[int, ...]
    edges: EdgeGraph

    def own_edges(self, graph: EdgeGraph) -> EdgeGraph:
        """See `AtomShare`."""
        return self.edges

    def own(self, rows: Tensor) -> Tensor:
        """See `AtomShare`."""
        start, stop = self._range
        return rows[start:stop]

    def own_counts(self, natoms: Int[Tensor, " structures"]) -> Int[Tensor, " structures"]:
        """See `AtomShare`."""
        return F.pad(natoms.cumsum(0), (1, 0)).clamp(*self._range).diff()

    def gather(self, rows: Float[Tensor, "own ..."]) -> Float[Tensor, "atoms ..."]:
        """See `AtomShare`."""
        return gather_rows(rows, self.group, self.bounds)

    def sum(self, values: Tensor) -> Tensor:
        """See `AtomShare`."""
        return sum_over_group(values, self.group)

    def agree(self, values: Tensor) -> Tensor:
        """See `AtomShare`."""
        dist.broadcast(values, dist.get_global_rank(self.group, 0), group=self.group)
        return values

    @property
    def _range(self) -> tuple[int, int]:
        rank = dist.get_rank(self.group)
        return self.bounds[rank], self.bounds[rank + 1]
