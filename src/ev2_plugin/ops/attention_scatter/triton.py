"""Attention weights in two kernels, and their gradients in two more, in Triton.

Autograd keeps the features and the weights; norm and activation are computed a second time in the backward pass.
Arithmetic and weights are in float32 (float64 for float64) whatever the dtype of the features.
"""

# no `from __future__ import annotations`: custom_op reads the annotations as types

from typing import Any

import torch
from torch import Tensor

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.ops.attention_scatter import triton_kernels as kernels
from ev2_plugin.ops.attention_scatter.reference import EPS, NEGATIVE_SLOPE, LogitParameters
from ev2_plugin.ops.triton_launch import device_of, sum_dtype, tile, tiles

TILE_ELEMENTS = 2048
"""Features per step: sixteen for each thread."""

EDGES_PER_PART = 256
"""Edges whose parameter gradients one program sums."""


def attention_weights(features: Tensor, parameters: LogitParameters, graph: EdgeGraph) -> Tensor:
    """Same contract as the reference."""
    return _attention_weights(
        features, parameters.norm_weight, parameters.norm_bias, parameters.dot, graph.row_pointers
    )


@torch.library.custom_op("ev2_triton::attention_weights", mutates_args=())
def _attention_weights(
    features: Tensor, norm_weight: Tensor | None, norm_bias: Tensor | None, dot: Tensor, row_pointers: Tensor
) -> Tensor:
    features, dot = _inner_dense(features), dot.contiguous()
    num_edges, heads, channels = features.shape
    out = features.new_empty((num_edges, heads), dtype=torch.promote_types(features.dtype, torch.float32))
    if not out.numel():
        return out
    rows = max(TILE_ELEMENTS // tile(channels, channels * 2), 1)
    with device_of(features):
        kernels.logits[(tiles(out.numel(), rows),)](
            features, features.stride(0), *_norm(norm_weight, norm_bias, dot), dot, out, out.numel(),
            **_sizes(norm_weight, dot), BLOCK_R=rows, ACC=sum_dtype(features),
        )  # fmt: skip
        kernels.softmax[(len(row_pointers) - 1,)](out, row_pointers, **_node_sizes(heads), ACC=sum_dtype(features))
    return out


@torch.library.custom_op("ev2_triton::attention_weights_backward", mutates_args=())
def _attention_weights_backward(
    grad: Tensor, features: Tensor, norm_weight: Tensor | None, norm_bias: Tensor | None, dot: Tensor,
    weights: Tensor, row_pointers: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    grad, features, dot = grad.contiguous(), _inner_dense(features), dot.contiguous()
    num_edges, heads, channels = features.shape
    grad_features = features.new_empty(features.shape)
    parts = tiles(num_edges, EDGES_PER_PART)
    partial_sums = weights.new_empty(parts, heads, 3, channels)
    if grad_features.numel():
        acc = sum_dtype(features)
        grad_logits = weights.new_empty(weights.shape)
        rows = max(TILE_ELEMENTS // tile(channels, channels * 2), 1)
        with device_of(features):
            kernels.softmax_gradient[(len(row_pointers) - 1,)](
                grad, weights, row_pointers, grad_logits, **_node_sizes(heads), ACC=acc
            )
            kernels.feature_gradient[(parts, heads)](
                grad_logits, features, features.stride(0), *_norm(norm_weight, norm_bias, dot), dot, grad_features,
                partial_sums, num_edges, **_sizes(norm_weight, dot), PART=EDGES_PER_PART,
                BLOCK_E=min(rows, EDGES_PER_PART), ACC=acc,
            )  # fmt: skip
    sums = partial_sums.sum(dim=0)  # [heads, 3, channels]
    of_norm = sums[:, 1:].sum(dim=0)
    return (
        grad_features,
        sums[:, 0].to(dot.dtype, copy=True),  # results of a custom operator may not share memory
        _absent(dot) if norm_weight is None else of_norm[0].to(norm_weight.dtype, copy=True),
        _absent(dot) if norm_bias is None else of_norm[1].to(norm_bias.dtype, copy=True),
    )


def _inner_dense(features: Tensor) -> Tensor:
    """Features whose heads and channels are dense; edges may be rows of a wider tensor."""
    return features if features.stride()[1:] == (features.shape[2], 1) else features.contiguous()


def _norm(norm_weight: Tensor | None, norm_bias: Tensor | None, unread: Tensor) -> tuple[Tensor, Tensor]:
    """Pointers for the kernels, which do not read them without a norm."""
    if norm_weight is None or norm_bias is None:
        return unread, unread
    return norm_weight.contiguous(), norm_bias.contiguous()


def _sizes(norm_weight: Tensor | None, dot: Tensor) -> dict[str, Any]:
    heads, channels = dot.shape
    return {
        "NORM": norm_weight is not None, "EPS": EPS, "SLOPE": NEGATIVE_SLOPE, "HEADS": heads, "A": channels,
        "BLOCK_A": tile(channels, channels * 2),
    }  # fmt: skip


def _node_sizes(heads: int) -> dict[str, int]:
    block = tile(heads, heads * 2)
    return {"HEADS": heads, "BLOCK_E": max(256 // block, 1), "BLOCK_H": block, "num_warps": 1}


def _absent(like: Tensor) -> Tensor:
    return like.new_zeros(0)


@_attention_weights.register_fake
def _(
    features: Tensor, norm_weight: Tensor | None, norm_bias: Tensor | None, dot: Tensor, row_pointers: Tensor
) -> Tensor:
    return features.new_empty(features.shape[:2], dtype=torch.promote_types(features.dtype, torch.float32))


@_attention_weights_backward.register_fake
def _(
    grad: Tensor, features: Tensor, norm_weight: Tensor | None, norm_bias: Tensor | None, dot: Tensor,
    weights: Tensor, row_pointers: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    weight, bias = (_absent(dot) if t is None else t.new_empty(t.shape) for t in (norm_weight, norm_bias))
    return features.new_empty(features.shape), dot.new_empty(dot.shape), weight, bias


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, norm_weight, norm_bias, dot, row_pointers = inputs
    ctx.save_for_backward(features, norm_weight, norm_bias, dot, output, row_pointers)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    _, norm_weight, norm_bias, *_ = ctx.saved_tensors
    grad_features, grad_dot, *of_norm = _attention_weights_backward(grad, *ctx.saved_tensors)
    grad_weight, grad_bias = (None if t is None else g for t, g in zip((norm_weight, norm_bias), of_norm, strict=True))
    return grad_features, grad_weight, grad_bias, grad_dot, None


_attention_weights.register_autograd(_backward, setup_context=_save)
