"""The rotations as one pass each over the edges, in Triton.

`rotated_messages` gathers, rotates, scales and writes order-major rows at once; `rotate_back_and_sum` weighs, rotates
back and sums at the receivers, storing nothing per edge. Their gradients at nodes are sums over each node's edges in a
fixed order, without atomics. Arithmetic is in float32 (float64 for float64) whatever the dtype of the tensors.
"""

# no `from __future__ import annotations`: custom_op reads the annotations as types

from math import isqrt
from typing import Any

import torch
from torch import Tensor

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.ops.autocast import compute_dtype
from ev2_plugin.ops.edge_rotation import triton_kernels as kernels
from ev2_plugin.ops.receiver_sum import accumulation_dtype
from ev2_plugin.ops.triton_launch import CHANNEL_TILE, device_of, sum_dtype, tile, tiles
from ev2_plugin.so3.edge_frame import EdgeFrames
from ev2_plugin.so3.layout import CoefficientLayout


def rotated_messages(x: Tensor, radial: Tensor, graph: EdgeGraph, frames: EdgeFrames) -> Tensor:
    """Same contract as the reference, in the dtype of `radial`; not followed by autograd."""
    layout = frames.layout
    return _rotated_messages(x, radial, frames.into, graph.senders, graph.receivers, layout.lmax, layout.mmax)


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
    return _rotated_messages_backward(
        grad, x, radial, frames.into, graph.senders, graph.receivers, graph.row_pointers, graph.sender_order,
        graph.sender_pointers, frames.layout.lmax, frames.layout.mmax,
    )  # fmt: skip


def rotate_back_and_sum(values: Tensor, attention: Tensor | None, back: Tensor, graph: EdgeGraph) -> Tensor:
    """Same contract as the reference; sums are in at least float32."""
    values = values.to(compute_dtype(values))
    return _rotate_back_and_sum(values, attention, back, graph.receivers, graph.row_pointers)


@torch.library.custom_op("ev2_triton::rotated_messages", mutates_args=())
def _rotated_messages(
    x: Tensor, radial: Tensor, into: Tensor, senders: Tensor, receivers: Tensor, lmax: int, mmax: int
) -> Tensor:
    x, radial, into = x.contiguous(), radial.contiguous(), into.contiguous()
    out = radial.new_empty(len(into), into.shape[1], radial.shape[2])
    if out.numel():
        with device_of(x):
            kernels.messages[_ends(x, into)](
                x, radial, into, senders, receivers, out, **_sizes(x, lmax, mmax), ACC=sum_dtype(x, radial),
                num_warps=1,
            )  # fmt: skip
    return out


@torch.library.custom_op("ev2_triton::rotated_messages_backward", mutates_args=())
def _rotated_messages_backward(
    grad: Tensor, x: Tensor, radial: Tensor, into: Tensor, senders: Tensor, receivers: Tensor, row_pointers: Tensor,
    sender_order: Tensor, sender_pointers: Tensor, lmax: int, mmax: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    grad, x, radial, into = grad.contiguous(), x.contiguous(), radial.contiguous(), into.contiguous()
    grad_x, grad_radial = x.new_empty(x.shape), radial.new_empty(radial.shape)
    sizes = _sizes(x, lmax, mmax) | {"ACC": sum_dtype(x, radial)}
    with device_of(x):
        if grad_radial.numel():
            kernels.radial_gradient[_ends(x, into)](
                grad, x, into, senders, receivers, grad_radial, **sizes, num_warps=1
            )
        if grad_x.numel():
            del sizes["BLOCK_M"]
            kernels.node_gradient[_degrees_of_nodes(x, lmax)](
                grad, radial, into, row_pointers, sender_order, sender_pointers, grad_x, **sizes, num_warps=2
            )
    return grad_x, grad_radial


def _sizes(x: Tensor, lmax: int, mmax: int) -> dict[str, Any]:
    layout, channels = CoefficientLayout(lmax, mmax), x.shape[2]
    return {
        "LMAX": lmax,
        "MMAX": mmax,
        "KEPT": layout.num_kept,
        "RADIAL": layout.num_radial,
        "C": channels,
        "BLOCK_M": tile(max(mmax + 1, 2)),
        "BLOCK_C": tile(channels),
    }


def _ends(x: Tensor, into: Tensor) -> tuple[int, int]:
    """Programs: both ends of every edge, tiles of channels."""
    return 2 * len(into), tiles(x.shape[2], tile(x.shape[2]))


def _degrees_of_nodes(x: Tensor, lmax: int) -> tuple[int, int]:
    """Programs: degrees of every node, tiles of channels."""
    return len(x) * (lmax + 1), tiles(x.shape[2], tile(x.shape[2]))


@torch.library.custom_op("ev2_triton::rotate_back_and_sum", mutates_args=())
def _rotate_back_and_sum(
    values: Tensor, attention: Tensor | None, back: Tensor, receivers: Tensor, row_pointers: Tensor
) -> Tensor:
    values, heads = values.contiguous(), 0 if attention is None else attention.shape[1]
    weights = values if attention is None else attention.contiguous()
    num_nodes, channels = len(row_pointers) - 1, values.shape[2]
    out = values.new_empty(num_nodes, back.shape[1], channels, dtype=accumulation_dtype(values))
    sizes = {"KEPT": back.shape[2], "HEADS": heads, "C": channels, "BLOCK_C": tile(channels)}
    layout, dtype = _whole_layout(back), sum_dtype(values, weights)
    if not out.numel():
        return out
    with device_of(values):
        if layout is not None:
            kernels.back_and_sum[_degrees_of_nodes(out, layout.lmax)](
                values, weights, back, back.stride(0), row_pointers, out, LMAX=layout.lmax, MMAX=layout.mmax, **sizes,
                ACC=dtype, num_warps=2,
            )  # fmt: skip
        else:
            rows = tile(back.shape[1], 16)
            grid = num_nodes * tiles(back.shape[1], rows), tiles(channels, tile(channels))
            kernels.back_and_sum_dense[grid](
                values, weights, back, *back.stride(), row_pointers, out, K=back.shape[1], **sizes, BLOCK_K=rows,
                ACC=dtype, num_warps=1,
            )  # fmt: skip
    return out


@torch.library.custom_op("ev2_triton::rotate_back_and_sum_backward", mutates_args=())
def _rotate_back_and_sum_backward(
    grad: Tensor, values: Tensor, attention: Tensor | None, back: Tensor, receivers: Tensor
) -> tuple[Tensor, Tensor]:
    grad, values, channels = grad.contiguous(), values.contiguous(), values.shape[2]
    weights = values if attention is None else attention.contiguous()
    grad_values = values.new_empty(values.shape)
    grad_weights = values.new_empty((0,)) if attention is None else torch.empty_like(weights)
    if not values.numel():
        return grad_values, grad_weights
    every_channel = tile(channels, channels * 2)
    sizes = {
        "KEPT": back.shape[2], "HEADS": 0 if attention is None else weights.shape[1], "C": channels,
        "BLOCK_C": every_channel, "ACC": sum_dtype(values, weights),
        "num_warps": tile(every_channel // CHANNEL_TILE, 8),
    }  # fmt: skip
    gradients = grad_values, grad_weights
    layout = _whole_layout(back)
    with device_of(values):
        if layout is not None:
            kernels.back_gradient[(len(values),)](
                grad, values, weights, back, back.stride(0), receivers, *gradients, LMAX=layout.lmax,
                MMAX=layout.mmax, BLOCK_M=tile(max(layout.mmax + 1, 2)), **sizes,
            )  # fmt: skip
        else:
            kernels.back_gradient_dense[(len(values),)](
                grad, values, weights, back, *back.stride(), receivers, *gradients, K=back.shape[1], **sizes
            )
    return grad_values, grad_weights


def _whole_layout(back: Tensor) -> CoefficientLayout | None:
    """The layout all of whose products `back` holds, so that degrees can be taken one by one; None for other parts.

    Leading rows up to some |m| are those of a layout with fewer orders. A matrix stored as the transpose of dense
    [kept, coefficients] has all coefficients if its columns are as far apart as it has coefficients.
    """
    coefficients, rows = back.shape[1:]
    lmax = isqrt(coefficients) - 1
    if (lmax + 1) ** 2 != coefficients or back.stride(1) != 1 or back.stride(2) != coefficients:
        return None
    layouts = (CoefficientLayout(lmax, mmax) for mmax in range(lmax + 1))
    return next((layout for layout in layouts if layout.num_kept == rows), None)


@_rotated_messages.register_fake
def _(x: Tensor, radial: Tensor, into: Tensor, senders: Tensor, receivers: Tensor, lmax: int, mmax: int) -> Tensor:
    return radial.new_empty(into.shape[0], into.shape[1], radial.shape[2])


@_rotated_messages_backward.register_fake
def _(
    grad: Tensor, x: Tensor, radial: Tensor, into: Tensor, senders: Tensor, receivers: Tensor, row_pointers: Tensor,
    sender_order: Tensor, sender_pointers: Tensor, lmax: int, mmax: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return x.new_empty(x.shape), radial.new_empty(radial.shape)


@_rotate_back_and_sum.register_fake
def _(values: Tensor, attention: Tensor | None, back: Tensor, receivers: Tensor, row_pointers: Tensor) -> Tensor:
    shape = row_pointers.shape[0] - 1, back.shape[1], values.shape[2]
    return values.new_empty(shape, dtype=accumulation_dtype(values))


@_rotate_back_and_sum_backward.register_fake
def _(grad: Tensor, values: Tensor, attention: Tensor | None, back: Tensor, receivers: Tensor) -> tuple[Tensor, Tensor]:
    return values.new_empty(values.shape), values.new_empty(0) if attention is None else attention.new_empty(
        attention.shape
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    values, attention, back, receivers, _ = inputs
    ctx.save_for_backward(values, attention, back, receivers)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    attention = ctx.saved_tensors[1]
    grad_values, grad_attention = _rotate_back_and_sum_backward(grad, *ctx.saved_tensors)
    return grad_values, None if attention is None else grad_attention, None, None, None


_rotate_back_and_sum.register_autograd(_backward, setup_context=_save)
