"""A directed graph whose edges are sorted by receiver."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class EdgeGraph:
    """Edges of a batch of structures, sorted by receiver.

    Attributes:
        senders: Index of the atom each message comes from, [edges].
        receivers: Index of the atom each message goes to, ascending, [edges].
        vectors: `pos[sender] - pos[receiver] + offset` in Å, [edges, 3].
        num_nodes: Number of atoms, those without edges included.
    """

    senders: Tensor
    receivers: Tensor
    vectors: Tensor
    num_nodes: int

    @cached_property
    def row_pointers(self) -> Tensor:
        """Where each receiver's edges begin and end: edges of node `n` are [n] : [n + 1]; [nodes + 1]."""
        return torch.searchsorted(self.receivers, self._nodes)

    @cached_property
    def sender_order(self) -> Tensor:
        """The edges in the order of their senders, those of one sender in their given order, [edges]."""
        return torch.argsort(self.senders, stable=True)

    @cached_property
    def sender_pointers(self) -> Tensor:
        """Where each sender's edges begin and end in `sender_order`, [nodes + 1]."""
        return torch.searchsorted(self.senders[self.sender_order], self._nodes)

    @cached_property
    def distances(self) -> Tensor:
        """Lengths of the edge vectors in Å, [edges]."""
        return torch.linalg.vector_norm(self.vectors, dim=-1)

    @property
    def _nodes(self) -> Tensor:
        return torch.arange(self.num_nodes + 1, device=self.receivers.device)

    def part(self, edges: slice) -> EdgeGraph:
        """Consecutive edges of the same nodes."""
        return EdgeGraph(self.senders[edges], self.receivers[edges], self.vectors[edges], self.num_nodes)


def sort_by_receiver(
    senders: Int[Tensor, " edges"],
    receivers: Int[Tensor, " edges"],
    vectors: Float[Tensor, "edges 3"],
    num_nodes: int,
) -> EdgeGraph:
    """Make a graph from edges in any order; edges of one receiver keep their order.

    Args:
        senders: Sender of each edge.
        receivers: Receiver of each edge.
        vectors: Edge vectors in Å.
        num_nodes: Number of atoms.

    Returns:
        The same edges, sorted by receiver.
    """
    order = torch.argsort(receivers, stable=True)
    return EdgeGraph(senders[order], receivers[order], vectors[order], num_nodes)
