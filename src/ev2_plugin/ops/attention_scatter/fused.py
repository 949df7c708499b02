"""Attention weights of which autograd keeps the features and the weights, nothing in between."""

# no `from __future__ import annotations`: custom_op reads the annotations as types

from typing import Any, List

import torch
from torch import Tensor

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.ops.attention_scatter.reference import EPS, NEGATIVE_SLOPE, LogitParameters
from ev2_plugin.ops.autocast import without_autocast
from ev2_plugin.ops.pointwise import silu_and_slope
from ev2_plugin.ops.receiver_sum import sum_by


def attention_weights(features: Tensor, parameters: LogitParameters, graph: EdgeGraph) -> Tensor:
    """Same contract as the reference."""
    return _attention_weights(
        features, parameters.norm_weight, parameters.norm_bias, parameters.dot, graph.receivers, graph.row_pointers
    )


@torch.library.custom_op("ev2::attention_weights", mutates_args=())
def _attention_weights(
    features: Tensor, norm_weight: Tensor | None, norm_bias: Tensor | None, dot: Tensor, receivers: Tensor,
    row_pointers: Tensor,
) -> Tensor:  # fmt: skip
    with without_autocast(features):
        x, _ = _normalised(features, norm_weight, norm_bias)
        activated, _ = _smooth_leaky_relu(x)
        logits = activated.mul_(dot).sum(dim=-1)
        largest = torch.segment_reduce(logits, "max", offsets=row_pointers, axis=0, unsafe=True)
        weights = logits.sub_(largest.index_select(0, receivers)).exp_()
        return weights.div_(sum_by(row_pointers, weights).index_select(0, receivers))


@torch.library.custom_op("ev2::attention_weights_backward", mutates_args=())
def _attention_weights_backward(
    grad: Tensor, features: Tensor, norm_weight: Tensor | None, norm_bias: Tensor | None, dot: Tensor,
    weights: Tensor, receivers: Tensor, row_pointers: Tensor,
) -> List[Tensor]:  # fmt: skip
    with without_autocast(features):
        weighted = grad * weights
        grad_logits = weighted - weights * sum_by(row_pointers, weighted).index_select(0, receivers)
        x, statistics = _normalised(features, norm_weight, norm_bias)
        activated, slope = _smooth_leaky_relu(x)
        grad_dot = activated.mul_(grad_logits.unsqueeze(-1)).sum(dim=0).to(dot.dtype)
        grad_x = slope.mul_(dot).mul_(grad_logits.unsqueeze(-1))
        if norm_weight is None or norm_bias is None:
            return [grad_x.to(features.dtype), grad_dot]
        grad_features, grad_weight, grad_bias = torch.ops.aten.native_layer_norm_backward(
            grad_x, features.to(x.dtype), x.shape[-1:], *statistics, norm_weight, norm_bias, [True, True, True]
        )
        return [grad_features.to(features.dtype), grad_dot, grad_weight, grad_bias]


def _normalised(features: Tensor, weight: Tensor | None, bias: Tensor | None) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Features in at least float32 after the layer norm, and its means and inverse deviations."""
    x = features.to(torch.promote_types(features.dtype, torch.float32))
    if weight is None:
        return x, ()
    out, *statistics = torch.native_layer_norm(x, x.shape[-1:], weight, bias, EPS)
    return out, tuple(statistics)


def _smooth_leaky_relu(x: Tensor) -> tuple[Tensor, Tensor]:
    """The function and its derivative."""
    value, slope = silu_and_slope(x)
    value = value.mul_(1 - NEGATIVE_SLOPE).add_(x, alpha=NEGATIVE_SLOPE)
    return value, slope.mul_(1 - NEGATIVE_SLOPE).add_(NEGATIVE_SLOPE)


@_attention_weights.register_fake
def _(
    features: Tensor, norm_weight: Tensor | None, norm_bias: Tensor | None, dot: Tensor, receivers: Tensor,
    row_pointers: Tensor,
) -> Tensor:  # fmt: skip
    return features.new_empty(features.shape[:2], dtype=torch.promote_types(features.dtype, torch.float32))


@_attention_weights_backward.register_fake
def _(
    grad: Tensor, features: Tensor, norm_weight: Tensor | None, norm_bias: Tensor | None, dot: Tensor,
    weights: Tensor, receivers: Tensor, row_pointers: Tensor,
) -> List[Tensor]:  # fmt: skip
    return [torch.empty_like(t) for t in (features, dot, norm_weight, norm_bias) if t is not None]


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, norm_weight, norm_bias, dot, receivers, row_pointers = inputs
    ctx.save_for_backward(features, norm_weight, norm_bias, dot, output, receivers, row_pointers)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grad_features, grad_dot, *norm = _attention_weights_backward(grad.contiguous(), *ctx.saved_tensors)
    grad_weight, grad_bias = norm or (None, None)
    return grad_features, grad_weight, grad_bias, grad_dot, None, None


_attention_weights.register_autograd(_backward, setup_context=_save)
