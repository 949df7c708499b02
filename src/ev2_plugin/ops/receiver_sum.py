"""Sums over the edges of each node, in an order that is always the same."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ev2_plugin.graph.edge_graph import EdgeGraph


def sum_at_receivers(values: Float[Tensor, "edges ..."], graph: EdgeGraph) -> Float[Tensor, "nodes ..."]:
    """Sums over each receiver's edges.

    Args:
        values: One row per edge.
        graph: Edges.

    Returns:
        One row per node, in at least float32; zero where a node receives nothing.
    """
    return sum_by(graph.row_pointers, values)


def sum_by(pointers: Int[Tensor, " nodes_and_one"], values: Float[Tensor, "edges ..."]) -> Float[Tensor, "nodes ..."]:
    """Sums of consecutive rows: the same order, hence the same rounding, every time and on every device.

    Args:
        pointers: Rows of node `n` are [n] : [n + 1].
        values: Rows.

    Returns:
        In at least float32: half precision would lose small terms.
    """
    values = values.to(accumulation_dtype(values))
    return torch.segment_reduce(values, "sum", offsets=pointers, axis=0, unsafe=True, initial=0.0)


def add_at_(out: Float[Tensor, "nodes ..."], nodes: Int[Tensor, " edges"], values: Float[Tensor, "edges ..."]) -> None:
    """Add every row to its node's, in place and in the rows' order; CPU only: elsewhere the order is not fixed."""
    out.index_add_(0, nodes, values.to(out.dtype))


def accumulation_dtype(values: Tensor) -> torch.dtype:
    """The dtype in which many terms are added up: at least float32."""
    return torch.promote_types(values.dtype, torch.float32)
