"""The same products in few passes over edge-sized tensors, keeping little for the backward pass.

`rotated_messages` and its transpose `rotated_messages_backward` are not followed by autograd: the convolution that
reads the messages makes them again instead of keeping them (`ops.edge_convolution`). The sum at the receivers keeps
values, attention weights and frames, not the features in the lab frame.
"""

# no `from __future__ import annotations`: custom_op reads the annotations as types

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.ops.autocast import compute_dtype, without_autocast
from ev2_plugin.ops.chunks import edge_chunks
from ev2_plugin.ops.receiver_sum import accumulation_dtype, add_at_, sum_by
from ev2_plugin.so3.edge_frame import EdgeFrames
from ev2_plugin.so3.layout import CoefficientLayout


def rotated_messages(x: Tensor, radial: Tensor, graph: EdgeGraph, frames: EdgeFrames) -> Tensor:
    """Same contract as the reference; not followed by autograd."""
    return _scale_(_gather_and_rotate(x, graph, frames.into), radial, frames.layout)


def rotated_messages_backward(
    grad: Tensor, x: Tensor, radial: Tensor, graph: EdgeGraph, frames: EdgeFrames
) -> tuple[Tensor, Tensor]:
    """Gradients of `rotated_messages`.

    Args:
        grad: Gradient of the messages, [edges, kept, 2 channels].
        x: Node features, as there.
        radial: Radial weights, as there.
        graph: Edges.
        frames: Their frames.

    Returns:
        The gradients of `x` and `radial`.
    """
    product = _gather_and_rotate(x, graph, frames.into).mul_(grad)
    grad_radial = torch.cat([block.sum(dim=1) for block, _ in _blocks(product, radial, frames.layout)], dim=1)
    del product
    lab = torch.bmm(frames.into.mT, _scale_(grad.clone(), radial, frames.layout))  # [E, coefficients, 2C]
    sender, receiver = lab.chunk(2, dim=-1)
    grad_x = sum_by(graph.row_pointers, receiver.contiguous())
    if x.device.type == "cpu":
        add_at_(grad_x, graph.senders, sender)
    else:
        grad_x += sum_by(graph.sender_pointers, sender.index_select(0, graph.sender_order))
    return grad_x, grad_radial


def rotate_back_and_sum(values: Tensor, attention: Tensor | None, back: Tensor, graph: EdgeGraph) -> Tensor:
    """Same contract as the reference."""
    dtype = compute_dtype(values)
    if attention is not None:
        attention = attention.to(dtype)
    return _rotate_back_and_sum(values.to(dtype), attention, back.to(dtype), graph.receivers, graph.row_pointers)


def _gather_and_rotate(x: Tensor, graph: EdgeGraph, into: Tensor) -> Tensor:
    ends = torch.cat((x.index_select(0, graph.senders), x.index_select(0, graph.receivers)), dim=-1)
    return torch.bmm(into, ends)


def _scale_(rows: Tensor, radial: Tensor, layout: CoefficientLayout) -> Tensor:
    """Multiply order-major rows by their radial weights, in place."""
    for block, weight in _blocks(rows, radial, layout):
        block.mul_(weight.unsqueeze(1))
    return rows


def _blocks(rows: Tensor, radial: Tensor, layout: CoefficientLayout) -> list[tuple[Tensor, Tensor]]:
    """For each |m| the rows as [edges, 1 or 2 signs, degrees, channels], and its part of `radial`."""
    parts = rows.split(layout.block_sizes, dim=1)
    weights = radial.split(layout.order_sizes, dim=1)
    return [(p.unflatten(1, (-1, w.shape[1])), w) for p, w in zip(parts, weights, strict=True)]


def _chunks(values: Tensor) -> Iterator[slice]:
    return edge_chunks(len(values), values[0].nbytes if len(values) else 1, values.device)


def _weighted(values: Tensor, attention: Tensor | None) -> Tensor:
    if attention is None:
        return values
    heads = values.unflatten(-1, (attention.shape[1], -1))  # [E, kept, heads, C / heads]
    return (heads * attention[:, None, :, None]).flatten(2)


@torch.library.custom_op("ev2::rotate_back_and_sum", mutates_args=())
def _rotate_back_and_sum(
    values: Tensor, attention: Tensor | None, back: Tensor, receivers: Tensor, row_pointers: Tensor
) -> Tensor:
    num_nodes = len(row_pointers) - 1
    with without_autocast(values):
        if values.device.type != "cpu":  # one pass: a loop over edges would have to ask the device where nodes begin
            return sum_by(row_pointers, torch.bmm(back, _weighted(values, attention)))
        out = values.new_zeros(num_nodes, back.shape[1], values.shape[2], dtype=accumulation_dtype(values))
        for edges in _chunks(values):
            part = None if attention is None else attention[edges]
            add_at_(out, receivers[edges], torch.bmm(back[edges], _weighted(values[edges], part)))
        return out


@torch.library.custom_op("ev2::rotate_back_and_sum_backward", mutates_args=())
def _rotate_back_and_sum_backward(
    grad: Tensor, values: Tensor, attention: Tensor | None, back: Tensor, receivers: Tensor
) -> tuple[Tensor, Tensor]:
    grad_values = torch.empty_like(values)
    grad_attention = values.new_zeros((0,)) if attention is None else torch.empty_like(attention)
    grad = grad.to(values.dtype)
    with without_autocast(values):
        for edges in _chunks(values):
            at_edges = torch.bmm(back[edges].mT, grad.index_select(0, receivers[edges]))
            if attention is None:
                grad_values[edges] = at_edges
                continue
            heads = at_edges.unflatten(-1, (attention.shape[1], -1))
            grad_attention[edges] = (heads * values[edges].view_as(heads)).sum(dim=(1, 3))
            grad_values[edges] = _weighted(at_edges, attention[edges])
    return grad_values, grad_attention


@_rotate_back_and_sum.register_fake
def _(values: Tensor, attention: Tensor | None, back: Tensor, receivers: Tensor, row_pointers: Tensor) -> Tensor:
    return values.new_empty(row_pointers.shape[0] - 1, back.shape[1], values.shape[2], dtype=accumulation_dtype(values))


@_rotate_back_and_sum_backward.register_fake
def _(grad: Tensor, values: Tensor, attention: Tensor | None, back: Tensor, receivers: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(values), values.new_empty((0,)) if attention is None else torch.empty_like(attention)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    values, attention, back, receivers, _ = inputs
    ctx.save_for_backward(values, attention, back, receivers)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    values, attention, back, receivers = ctx.saved_tensors  # read once: checkpointing makes them for one reading
    grad_values, grad_attention = _rotate_back_and_sum_backward(grad.contiguous(), values, attention, back, receivers)
    return grad_values, None if attention is None else grad_attention, None, None, None


_rotate_back_and_sum.register_autograd(_backward, setup_context=_save)
