"""The same products, keeping for the backward pass only what cannot be made again cheaply.

Plain autograd keeps the rotated messages to differentiate the radial weights, and the features in the lab frame
because its segment sum asks for them: together a third of what a layer keeps per edge. Here the messages are
gathered and rotated a second time in the backward pass (3 % of a layer's arithmetic), and the sum keeps nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.ops.receiver_sum import sum_at_receivers
from ev2_plugin.so3.edge_frame import EdgeFrames
from ev2_plugin.so3.layout import CoefficientLayout


def rotated_messages(x: Tensor, radial: Tensor, graph: EdgeGraph, frames: EdgeFrames) -> Tensor:
    """Same contract as the reference."""
    return _RotatedMessages.apply(x, radial, frames.into, graph, frames.layout)


def rotate_back_and_sum(values: Tensor, back: Tensor, graph: EdgeGraph) -> Tensor:
    """Same contract as the reference."""
    return _RotateBackAndSum.apply(values, back, graph)


def _gather_and_rotate(x: Tensor, into: Tensor, graph: EdgeGraph) -> Tensor:
    ends = (graph.senders, graph.receivers)
    return torch.cat([torch.bmm(into, x.index_select(0, end)) for end in ends], dim=-1)


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


class _RotatedMessages(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, radial: Tensor, into: Tensor, graph: EdgeGraph, layout: CoefficientLayout
    ) -> Tensor:
        ctx.save_for_backward(x, radial, into)
        ctx.graph, ctx.layout = graph, layout
        return _scale_(_gather_and_rotate(x, into, graph), radial, layout)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        x, radial, into = ctx.saved_tensors
        graph, layout = ctx.graph, ctx.layout
        lab_frame = into.mT.to(grad.dtype)  # under autocast the messages have less precision than the frames
        product = _gather_and_rotate(x.to(grad.dtype), lab_frame.mT, graph).mul_(grad)
        grad_radial = torch.cat([block.sum(dim=1) for block, _ in _blocks(product, radial, layout)], dim=1)
        del product

        sender, receiver = _scale_(grad.clone(), radial, layout).chunk(2, dim=-1)
        grad_x = sum_at_receivers(torch.bmm(lab_frame, receiver), graph)
        grad_x.index_add_(0, graph.senders, torch.bmm(lab_frame, sender))
        return grad_x.to(x.dtype), grad_radial.to(radial.dtype), None, None, None


class _RotateBackAndSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, back: Tensor, graph: EdgeGraph) -> Tensor:
        ctx.save_for_backward(back)
        ctx.graph, ctx.dtype = graph, values.dtype
        return sum_at_receivers(torch.bmm(back.to(values.dtype), values), graph)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (back,) = ctx.saved_tensors
        at_edges = grad.index_select(0, ctx.graph.receivers)
        return torch.bmm(back.mT.to(ctx.dtype), at_edges), None, None
