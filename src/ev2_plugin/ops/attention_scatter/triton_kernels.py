"""Kernels of the attention weights: features -> logits -> softmax over each receiver's edges, and back.

Softmax runs over a node's edges in their order. Gradients of parameters are summed over a fixed number of edges per
program and then over programs, so the same input gives the same rounding.
"""

# no `from __future__ import annotations`: the interpreter compares annotations with tl.constexpr

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def _normalised(x, there, A: tl.constexpr, EPS: tl.constexpr, ACC: tl.constexpr):
    """Rows with mean 0 and variance 1, zero where there is nothing, and their inverse deviations."""
    centred = tl.where(there, x - (tl.sum(x, axis=1) / A)[:, None], 0.0)
    eps = tl.full((1,), EPS, dtype=ACC)  # a plain number would be rounded to float32
    scale = 1.0 / tl.sqrt(tl.sum(centred * centred, axis=1) / A + eps)
    return centred * scale[:, None], scale


@triton.jit
@no_type_check
def _smooth_leaky_relu(x, SLOPE: tl.constexpr, ACC: tl.constexpr):
    """Value and derivative of SLOPE * x + (1 - SLOPE) * silu(x)."""
    linear = tl.full((1, 1), SLOPE, dtype=ACC)
    sigmoid = 1.0 / (1.0 + tl.exp(-x))
    value = linear * x + (1.0 - linear) * x * sigmoid
    return value, linear + (1.0 - linear) * sigmoid * (1.0 + x * (1.0 - sigmoid))


@triton.jit
@no_type_check
def logits(
    features, edge_stride, norm_weight, norm_bias, dot, out, num_rows, NORM: tl.constexpr, EPS: tl.constexpr,
    SLOPE: tl.constexpr, HEADS: tl.constexpr, A: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_A: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """out[edge, head] = dot . smooth_leaky_relu(norm(features)); rows are pairs of edge and head."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    edge, head = row // HEADS, row % HEADS
    a = tl.arange(0, BLOCK_A)
    there = (row < num_rows)[:, None] & (a < A)[None, :]
    place = (edge * edge_stride + head * A)[:, None] + a[None, :]
    x = tl.load(features + place, mask=there, other=0.0).to(ACC)
    if NORM:
        x, _ = _normalised(x, there, A, EPS, ACC)
        x *= tl.load(norm_weight + a, mask=a < A, other=0.0).to(ACC)[None, :]
        x += tl.load(norm_bias + a, mask=a < A, other=0.0).to(ACC)[None, :]
    activated, _ = _smooth_leaky_relu(x, SLOPE, ACC)
    weight = tl.load(dot + head[:, None] * A + a[None, :], mask=there, other=0.0).to(ACC)
    tl.store(out + row, tl.sum(activated * weight, axis=1), mask=row < num_rows)


@triton.jit
@no_type_check
def softmax(x, row_pointers, HEADS: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_H: tl.constexpr, ACC: tl.constexpr):
    """Softmax of [edges, heads] over each node's edges, in place; grid (nodes)."""
    node = tl.program_id(0)
    first, last = tl.load(row_pointers + node), tl.load(row_pointers + node + 1)
    h = tl.arange(0, BLOCK_H)
    largest = tl.full((BLOCK_H,), float("-inf"), dtype=ACC)
    for start in range(first, last, BLOCK_E):
        edge = start + tl.arange(0, BLOCK_E)
        there = (edge < last)[:, None] & (h < HEADS)[None, :]
        tile = tl.load(x + edge[:, None] * HEADS + h[None, :], mask=there, other=float("-inf"))
        largest = tl.maximum(largest, tl.max(tile, axis=0))
    largest = tl.where(h < HEADS, largest, 0.0)
    total = tl.zeros((BLOCK_H,), dtype=ACC)
    for start in range(first, last, BLOCK_E):
        edge = start + tl.arange(0, BLOCK_E)
        there = (edge < last)[:, None] & (h < HEADS)[None, :]
        tile = tl.load(x + edge[:, None] * HEADS + h[None, :], mask=there, other=float("-inf"))
        total += tl.sum(tl.exp(tile - largest[None, :]), axis=0)
    total = tl.where(h < HEADS, total, 1.0)
    for start in range(first, last, BLOCK_E):
        edge = start + tl.arange(0, BLOCK_E)
        there = (edge < last)[:, None] & (h < HEADS)[None, :]
        place = x + edge[:, None] * HEADS + h[None, :]
        tile = tl.load(place, mask=there, other=float("-inf"))
        tl.store(place, tl.exp(tile - largest[None, :]) / total[None, :], mask=there)


@triton.jit
@no_type_check
def softmax_gradient(
    grad, weights, row_pointers, out, HEADS: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_H: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Weights * (grad - sum over the node's edges of weights * grad); grid (nodes)."""
    node = tl.program_id(0)
    first, last = tl.load(row_pointers + node), tl.load(row_pointers + node + 1)
    h = tl.arange(0, BLOCK_H)
    total = tl.zeros((BLOCK_H,), dtype=ACC)
    for start in range(first, last, BLOCK_E):
        edge = start + tl.arange(0, BLOCK_E)
        there = (edge < last)[:, None] & (h < HEADS)[None, :]
        place = edge[:, None] * HEADS + h[None, :]
        weight = tl.load(weights + place, mask=there, other=0.0).to(ACC)
        total += tl.sum(weight * tl.load(grad + place, mask=there, other=0.0).to(ACC), axis=0)
    for start in range(first, last, BLOCK_E):
        edge = start + tl.arange(0, BLOCK_E)
        there = (edge < last)[:, None] & (h < HEADS)[None, :]
        place = edge[:, None] * HEADS + h[None, :]
        weight = tl.load(weights + place, mask=there, other=0.0).to(ACC)
        change = tl.load(grad + place, mask=there, other=0.0).to(ACC) - total[None, :]
        tl.store(out + place, weight * change, mask=there)


@triton.jit
@no_type_check
def feature_gradient(
    grad_logits, features, edge_stride, norm_weight, norm_bias, dot, grad_features, partial_sums, num_edges,
    NORM: tl.constexpr, EPS: tl.constexpr, SLOPE: tl.constexpr, HEADS: tl.constexpr, A: tl.constexpr,
    PART: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_A: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Gradients of `logits`, everything between computed a second time; grid (parts of PART edges, heads).

    `partial_sums` [parts, heads, 3, A] takes this part's gradients of dot, norm_weight and norm_bias.
    """
    part, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    a = tl.arange(0, BLOCK_A)
    vector = tl.load(dot + head * A + a, mask=a < A, other=0.0).to(ACC)
    weight = tl.full((BLOCK_A,), 1.0, dtype=ACC)
    bias = tl.zeros((BLOCK_A,), dtype=ACC)
    if NORM:
        weight = tl.load(norm_weight + a, mask=a < A, other=0.0).to(ACC)
        bias = tl.load(norm_bias + a, mask=a < A, other=0.0).to(ACC)
    grad_dot = tl.zeros((BLOCK_A,), dtype=ACC)
    grad_weight = tl.zeros((BLOCK_A,), dtype=ACC)
    grad_bias = tl.zeros((BLOCK_A,), dtype=ACC)
    for start in range(0, PART, BLOCK_E):
        edge = part * PART + start + tl.arange(0, BLOCK_E)
        there = (edge < num_edges)[:, None] & (a < A)[None, :]
        x = tl.load(features + (edge * edge_stride + head * A)[:, None] + a[None, :], mask=there, other=0.0).to(ACC)
        scale = tl.full((BLOCK_E,), 1.0, dtype=ACC)
        if NORM:
            x, scale = _normalised(x, there, A, EPS, ACC)
        y = x * weight[None, :] + bias[None, :]
        activated, slope = _smooth_leaky_relu(y, SLOPE, ACC)
        grad = tl.load(grad_logits + edge * HEADS + head, mask=edge < num_edges, other=0.0).to(ACC)[:, None]
        grad_y = slope * vector[None, :] * grad
        grad_dot += tl.sum(activated * grad, axis=0)
        grad_weight += tl.sum(grad_y * x, axis=0)
        grad_bias += tl.sum(grad_y, axis=0)
        grad_x = grad_y * weight[None, :]
        if NORM:
            along = (tl.sum(grad_x * x, axis=1) / A)[:, None]
            grad_x = scale[:, None] * (grad_x - (tl.sum(grad_x, axis=1) / A)[:, None] - x * along)
        place = grad_features + ((edge * HEADS + head) * A)[:, None] + a[None, :]
        tl.store(place, grad_x.to(grad_features.dtype.element_ty), mask=there)
    partial_sums += (part * HEADS + head) * (3 * A)
    tl.store(partial_sums + a, grad_dot, mask=a < A)
    tl.store(partial_sums + A + a, grad_weight, mask=a < A)
    tl.store(partial_sums + 2 * A + a, grad_bias, mask=a < A)
