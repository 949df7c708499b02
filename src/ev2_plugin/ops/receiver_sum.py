"""Sums over the edges of each node, in an order that is always the same."""

# no `from __future__ import annotations`: custom_op reads the annotations as types

from typing import Any

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
    return sum_rows(values, graph.row_pointers, graph.receivers)


def sum_rows(
    values: Float[Tensor, "rows ..."], pointers: Int[Tensor, " nodes_and_one"], owners: Int[Tensor, " rows"]
) -> Float[Tensor, "nodes ..."]:
    """`sum_by`, followed by autograd and by torch.compile.

    Args:
        values: Rows.
        pointers: Rows of node `n` are [n] : [n + 1].
        owners: Node of each row.
    """
    return _sum_rows(values.to(accumulation_dtype(values)), pointers, owners)


@torch.library.custom_op("ev2::sum_rows", mutates_args=())
def _sum_rows(values: Tensor, pointers: Tensor, owners: Tensor) -> Tensor:
    return sum_by(pointers, values)


@_sum_rows.register_fake
def _(values: Tensor, pointers: Tensor, owners: Tensor) -> Tensor:
    return values.new_empty(pointers.shape[0] - 1, *values.shape[1:])


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[2])


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return grad.index_select(0, ctx.saved_tensors[0]), None, None


_sum_rows.register_autograd(_backward, setup_context=_save)


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
