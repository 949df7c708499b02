"""What the layers know of the edges, whole or a part at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.nn.atom_share import AtomShare
from ev2_plugin.so3.edge_frame import EdgeFrames


@dataclass(frozen=True)
class EdgeContext:
    """Everything the layers need to know of the edges, made once per forward pass.

    Attributes:
        graph: The edges.
        frames: Their frames.
        scalars: Distance basis and, if they are shared, element embeddings, [edges, inputs].
        sender_elements: Atomic numbers, [edges].
        receiver_elements: Atomic numbers, [edges].
        max_edges: The most edges whose features may exist together while nothing is kept for a backward pass.
        share: The atoms that this process computes: the receivers of these edges.
    """

    graph: EdgeGraph
    frames: EdgeFrames
    scalars: Tensor
    sender_elements: Tensor
    receiver_elements: Tensor
    max_edges: int
    share: AtomShare

    @property
    def whole(self) -> EdgePart:
        """All edges."""
        return EdgePart(self, self.share.own_edges(self.graph))

    @property
    def parts(self) -> list[EdgePart]:
        """Consecutive receivers with all their edges, at most `max_edges` edges each where that is possible.

        Where there are more edges than that, this waits for the device once. Compiled, all edges are one part.
        """
        if torch.compiler.is_compiling() or len(self.scalars) <= self.max_edges:
            return [self.whole]
        return self._several_parts

    @cached_property
    def _several_parts(self) -> list[EdgePart]:
        sums = self.whole.sums
        pointers = sums.row_pointers.tolist()
        return [
            self._part(sums, nodes, slice(pointers[nodes.start], pointers[nodes.stop])) for nodes in self._cut(pointers)
        ]

    def _cut(self, pointers: list[int]) -> Iterator[slice]:
        start = 0
        for stop in range(1, len(pointers)):
            if stop + 1 == len(pointers) or pointers[stop + 1] - pointers[start] > self.max_edges:
                yield slice(start, stop)
                start = stop

    def _part(self, sums: EdgeGraph, nodes: slice, edges: slice) -> EdgePart:
        graph, frames = self.graph.part(edges), self.frames
        context = EdgeContext(
            graph,
            EdgeFrames(frames.layout, frames.into[edges], frames.back[edges]),
            self.scalars[edges],
            self.sender_elements[edges],
            self.receiver_elements[edges],
            self.max_edges,
            self.share,
        )
        receivers = sums.receivers[edges] - nodes.start
        local = EdgeGraph(graph.senders, receivers, graph.vectors, nodes.stop - nodes.start)
        return EdgePart(context, local)


@dataclass(frozen=True)
class EdgePart:
    """All edges of consecutive receivers.

    Attributes:
        edges: The edges; senders and receivers are counted in the whole graph.
        sums: The same edges with receivers counted from the part's first: for what is summed at receivers.
    """

    edges: EdgeContext
    sums: EdgeGraph
