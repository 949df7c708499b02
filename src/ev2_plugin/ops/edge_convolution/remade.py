"""The first half of a message, made a second time in the backward pass instead of kept.

Messages and radial weights are what a layer would keep most of: 40 of 65 kB per edge at lmax 4, mmax 2 and 128
channels. Making them again costs a gather, a rotation and the radial function's last linear map, a tenth of the
convolution they enter; the convolution itself is not repeated. Edges are taken in chunks, so the messages of all edges
never exist together.
"""

# no `from __future__ import annotations`: custom_op reads the annotations as types

from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any, List, cast

import torch
from torch import Tensor

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.ops.autocast import compute_dtype, without_autocast
from ev2_plugin.ops.chunks import edge_chunks
from ev2_plugin.ops.edge_convolution.reference import RadialWeights
from ev2_plugin.ops.linear import Precision, linear, product
from ev2_plugin.ops.receiver_sum import accumulation_dtype
from ev2_plugin.ops.so2_linear.one_gemm import (
    block_matrices,
    real_as_complex,
    so2_linear_backward,
    so2_linear_by_blocks,
)
from ev2_plugin.ops.so2_linear.reference import SO2Weights
from ev2_plugin.so3.edge_frame import EdgeFrames
from ev2_plugin.so3.layout import CoefficientLayout


def convolved_messages(
    x: Tensor,
    radial: RadialWeights,
    weights: SO2Weights,
    graph: EdgeGraph,
    frames: EdgeFrames,
    precision: Precision = "highest",
    rotation: str = "pytorch",
) -> tuple[Tensor, Tensor]:
    """Same contract as the reference.

    Args:
        x: As there.
        radial: As there.
        weights: As there.
        graph: As there.
        frames: As there.
        precision: Of the matrix products.
        rotation: Module of `ops.edge_rotation` whose kernels make the messages.
    """
    dtype = compute_dtype(x)
    x, hidden, radial_weight, radial_bias, zero, bias, *pairs = (
        t.to(dtype) for t in (x, radial.hidden, radial.weight, radial.bias, weights.zero, weights.bias, *weights.pairs)
    )
    return _convolved_messages(
        x, hidden, radial_weight, radial_bias, zero, bias, pairs, frames.into.to(dtype), graph.senders,
        graph.receivers, frames.layout.lmax, frames.layout.mmax, weights.num_scalars, precision, rotation,
    )  # fmt: skip


@torch.library.custom_op("ev2::convolved_messages", mutates_args=())
def _convolved_messages(
    x: Tensor, hidden: Tensor, radial_weight: Tensor, radial_bias: Tensor, zero: Tensor, bias: Tensor,
    pairs: List[Tensor], into: Tensor, senders: Tensor, receivers: Tensor,
    lmax: int, mmax: int, num_scalars: int, precision: str, rotation: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    layout, weights = CoefficientLayout(lmax, mmax), SO2Weights(zero, bias, tuple(pairs), num_scalars)
    matrices, products = block_matrices(weights), cast(Precision, precision)
    out, scalars = _outputs(x, into, zero, num_scalars, lmax + 1)
    with without_autocast(x):
        for edges in _chunks(x, into):
            graph, frames = _part(senders, receivers, into, layout, edges, len(x))
            radial = linear(hidden[edges], radial_weight, radial_bias, products)
            radial = radial.unflatten(1, (layout.num_radial, -1))
            messages = _rotation(rotation).rotated_messages(x, radial, graph, frames)
            out[edges], scalars[edges] = so2_linear_by_blocks(messages, matrices, weights, layout, products)
    return out, scalars


@torch.library.custom_op("ev2::convolved_messages_backward", mutates_args=())
def _convolved_messages_backward(
    grad_out: Tensor, grad_scalars: Tensor, x: Tensor, hidden: Tensor, radial_weight: Tensor, radial_bias: Tensor,
    zero: Tensor, pairs: List[Tensor], into: Tensor, senders: Tensor, receivers: Tensor,
    lmax: int, mmax: int, precision: str, rotation: str,
) -> List[Tensor]:  # fmt: skip
    layout, form, products = CoefficientLayout(lmax, mmax), _rotation(rotation), cast(Precision, precision)
    grad_hidden = torch.empty_like(hidden)
    matrices = block_matrices(SO2Weights(zero, zero[:, 0], tuple(pairs)))
    grad_x, grad_radial_weight, grad_radial_bias, *grad_matrices = (
        torch.zeros_like(t, dtype=accumulation_dtype(t)) for t in (x, radial_weight, radial_bias, *matrices)
    )
    with without_autocast(x):
        for edges in _chunks(x, into):
            graph, frames = _part(senders, receivers, into, layout, edges, len(x))
            radial = linear(hidden[edges], radial_weight, radial_bias, products)
            radial = radial.unflatten(1, (layout.num_radial, -1))
            messages = form.rotated_messages(x, radial, graph, frames)
            grad_messages, parts = so2_linear_backward(
                messages, grad_out[edges], grad_scalars[edges], matrices, layout, products
            )
            for total, part in zip(grad_matrices, parts, strict=True):
                total += part
            del messages, parts
            part_x, grad_radial = form.rotated_messages_backward(grad_messages, x, radial, graph, frames)
            del grad_messages, radial
            grad_x += part_x
            grad_radial = grad_radial.flatten(1)
            grad_hidden[edges] = product(grad_radial, radial_weight, products)
            grad_radial_weight += product(grad_radial.T, hidden[edges], products)
            grad_radial_bias += grad_radial.sum(dim=0)
    grad_bias = torch.cat((grad_scalars, grad_out[:, : lmax + 1].flatten(1)), dim=1).sum(dim=0)
    grad_zero, *grad_pairs = grad_matrices
    grads = [
        grad_x, grad_hidden, grad_radial_weight, grad_radial_bias, grad_zero, grad_bias,
        *(real_as_complex(grad) for grad in grad_pairs),
    ]  # fmt: skip
    return [grad.to(x.dtype) for grad in grads]


def _outputs(x: Tensor, into: Tensor, zero: Tensor, num_scalars: int, degrees: int) -> tuple[Tensor, Tensor]:
    edges, kept = into.shape[:2]
    channels = (len(zero) - num_scalars) // degrees
    return x.new_empty(edges, kept, channels), x.new_empty(edges, num_scalars)


def _chunks(x: Tensor, into: Tensor) -> Iterator[slice]:
    """A chunk has at least as many edges as there are nodes: each adds to the gradient of every node once."""
    message = 2 * x.shape[2] * into.shape[1] * x.element_size()
    return edge_chunks(len(into), message, x.device, at_least=len(x))


def _part(
    senders: Tensor, receivers: Tensor, into: Tensor, layout: CoefficientLayout, edges: slice, num_nodes: int
) -> tuple[EdgeGraph, EdgeFrames]:
    # the rotations read no vectors; these numbers only have their shape
    graph = EdgeGraph(senders[edges], receivers[edges], into[edges, 0, :3], num_nodes)
    return graph, EdgeFrames(layout, into[edges], into[edges].mT)


def _rotation(name: str) -> ModuleType:
    return import_module(f"ev2_plugin.ops.edge_rotation.{name}")


@_convolved_messages.register_fake
def _(
    x: Tensor, hidden: Tensor, radial_weight: Tensor, radial_bias: Tensor, zero: Tensor, bias: Tensor,
    pairs: List[Tensor], into: Tensor, senders: Tensor, receivers: Tensor,
    lmax: int, mmax: int, num_scalars: int, precision: str, rotation: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return _outputs(x, into, zero, num_scalars, lmax + 1)


@_convolved_messages_backward.register_fake
def _(
    grad_out: Tensor, grad_scalars: Tensor, x: Tensor, hidden: Tensor, radial_weight: Tensor, radial_bias: Tensor,
    zero: Tensor, pairs: List[Tensor], into: Tensor, senders: Tensor, receivers: Tensor,
    lmax: int, mmax: int, precision: str, rotation: str,
) -> List[Tensor]:  # fmt: skip
    bias = zero.new_empty(len(zero))
    return [torch.empty_like(t) for t in (x, hidden, radial_weight, radial_bias, zero, bias, *pairs)]


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, hidden, radial_weight, radial_bias, zero, _, pairs, into, senders, receivers, *rest = inputs
    ctx.save_for_backward(x, hidden, radial_weight, radial_bias, zero, into, senders, receivers, *pairs)
    lmax, mmax, _, precision, rotation = rest
    ctx.settings = lmax, mmax, precision, rotation


def _backward(ctx: Any, grad_out: Tensor, grad_scalars: Tensor) -> tuple[Any, ...]:
    x, hidden, radial_weight, radial_bias, zero, into, senders, receivers, *pairs = ctx.saved_tensors
    grad_x, grad_hidden, grad_radial_weight, grad_radial_bias, grad_zero, grad_bias, *grad_pairs = (
        _convolved_messages_backward(
            grad_out, grad_scalars, x, hidden, radial_weight, radial_bias, zero, pairs, into, senders, receivers,
            *ctx.settings,
        )
    )  # fmt: skip
    return (
        grad_x, grad_hidden, grad_radial_weight, grad_radial_bias, grad_zero, grad_bias, grad_pairs,
        *(None,) * 8,
    )  # fmt: skip


_convolved_messages.register_autograd(_backward, setup_context=_save)
