"""Cutting a batch into the shares of several processes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.model.batch import AtomBatch
from ev2_plugin.nn.atom_share import AtomShare, GroupShare


@dataclass(frozen=True)
class SharedBatch(AtomBatch):
    """A batch of which a process computes a part.

    Attributes:
        part: Own atoms.
    """

    part: GroupShare

    @property
    def share(self) -> AtomShare:
        """Own atoms."""
        return self.part


def share_batch(
    atoms: AtomBatch, gauge: Float[Tensor, " edges"] | None, group: dist.ProcessGroup
) -> tuple[SharedBatch, Tensor | None]:
    """Keep the edges into one process's share of the atoms.

    Every process of the group must be given the same batch. It waits for the device once.

    Args:
        atoms: All structures with all edges.
        gauge: Turn of each edge frame; None for 0.
        group: The processes.

    Returns:
        The same structures with the edges into own atoms, and their gauge. Predictions are of all structures.
    """
    graph, pointers, parts = atoms.graph, atoms.graph.row_pointers, dist.get_world_size(group)
    cuts = even_cuts(pointers, parts)
    *bounds, first_edge, stop_edge = torch.cat((cuts, pointers[cuts[dist.get_rank(group) :][:2]])).tolist()
    edges, first = graph.part(slice(first_edge, stop_edge)), bounds[dist.get_rank(group)]
    own = bounds[dist.get_rank(group) + 1] - first
    into_own = EdgeGraph(edges.senders, edges.receivers - first, edges.vectors, own)
    share = GroupShare(group, tuple(bounds), into_own)
    shared = SharedBatch(atoms.atomic_numbers, atoms.natoms, edges, share)
    return shared, None if gauge is None else gauge[first_edge:stop_edge]


def even_cuts(pointers: Int[Tensor, " atoms_and_one"], parts: int) -> Int[Tensor, " parts_and_one"]:
    """Where to cut atoms in order into parts of about equal work: an atom counts like one of its edges.

    Args:
        pointers: Edges of atom `n` are [n] : [n + 1].
        parts: How many; more than there are atoms leaves some empty.

    Returns:
        The first atom of each part, and the number of atoms.
    """
    before = pointers + torch.arange(len(pointers), device=pointers.device)  # work of all atoms before each
    wanted = before[-1] * torch.arange(parts + 1, device=pointers.device)
    return torch.searchsorted(before * parts, wanted)
