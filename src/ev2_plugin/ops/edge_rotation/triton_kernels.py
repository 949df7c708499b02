"""Kernels of the edge rotation: one warp per edge or node, no products with the zeros between degrees.

A rotation couples a degree with itself alone. In degree `l` it has the 2l + 1 columns l*l ... l*l + 2l of a
degree-major matrix and, order-major, one row for m = 0 and two for each |m| up to min(l, mmax). Loops over degrees and
columns are unrolled; the orders of a degree are one tile, the rows +m and -m two of them, so that both take the same
radial weights. Sums at nodes run over the node's edges in their order: the same rounding every time.

Every kernel wants dense tensors. Only the matrix may be part of a larger one: leading rows of it, or, for the kernels
that take all degrees together, any rows and coefficients.
"""

# no `from __future__ import annotations`: the interpreter compares annotations with tl.constexpr

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def _tables(l: tl.constexpr, LMAX: tl.constexpr, BLOCK_M: tl.constexpr):
    """Orders |m| of a tile, their rows (l, +m), (l, -m) and their radial weights; see `CoefficientLayout`."""
    m = tl.arange(0, BLOCK_M)
    radial = m * (LMAX + 1) - m * (m - 1) // 2 + l - m
    plus = tl.where(m == 0, l, (2 * m - 1) * (LMAX + 1) - m * (m - 1) + l - m)
    return m, plus, plus + LMAX + 1 - m, radial


@triton.jit
@no_type_check
def _rotated(
    x, matrix, c, l: tl.constexpr, LMAX: tl.constexpr, MMAX: tl.constexpr,
    C: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Rows of degree `l` of matrix @ x, those of +m and those of -m (none for m = 0), [BLOCK_M, BLOCK_C] each."""
    m, plus_row, minus_row, _ = _tables(l, LMAX, BLOCK_M)
    there = (m <= l) & (m <= MMAX)
    plus = tl.zeros((BLOCK_M, BLOCK_C), dtype=ACC)
    minus = tl.zeros((BLOCK_M, BLOCK_C), dtype=ACC)
    for j in tl.static_range(2 * l + 1):
        coefficients = tl.load(x + (l * l + j) * C + c, mask=c < C, other=0.0).to(ACC)
        column = matrix + l * l + j
        plus_weight = tl.load(column + plus_row * (LMAX + 1) * (LMAX + 1), mask=there, other=0.0).to(ACC)
        minus_weight = tl.load(column + minus_row * (LMAX + 1) * (LMAX + 1), mask=there & (m > 0), other=0.0).to(ACC)
        plus += plus_weight[:, None] * coefficients
        minus += minus_weight[:, None] * coefficients
    return plus, minus


@triton.jit
@no_type_check
def messages(
    x, radial, into, senders, receivers, out, LMAX: tl.constexpr, MMAX: tl.constexpr, KEPT: tl.constexpr,
    RADIAL: tl.constexpr, C: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """out[edge, :, end * C + c] = radial * (into @ x[node of this end]); grid (2 * edges, channel tiles)."""
    edge, end = (tl.program_id(0) // 2).to(tl.int64), tl.program_id(0) % 2
    node = tl.where(end == 0, tl.load(senders + edge), tl.load(receivers + edge)).to(tl.int64)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    K: tl.constexpr = (LMAX + 1) * (LMAX + 1)
    x += node * (K * C)
    into += edge * (KEPT * K)
    radial += edge * (RADIAL * 2 * C) + end * C
    out += edge * (KEPT * 2 * C) + end * C
    for l in tl.static_range(LMAX + 1):
        plus, minus = _rotated(x, into, c, l, LMAX, MMAX, C, BLOCK_M, BLOCK_C, ACC)
        m, plus_row, minus_row, radial_row = _tables(l, LMAX, BLOCK_M)
        there = ((m <= l) & (m <= MMAX))[:, None] & (c < C)
        weight = tl.load(radial + radial_row[:, None] * (2 * C) + c, mask=there, other=0.0).to(ACC)
        place = out + c
        tl.store(place + plus_row[:, None] * (2 * C), (plus * weight).to(out.dtype.element_ty), mask=there)
        tl.store(
            place + minus_row[:, None] * (2 * C),
            (minus * weight).to(out.dtype.element_ty),
            mask=there & (m > 0)[:, None],
        )


@triton.jit
@no_type_check
def radial_gradient(
    grad, x, into, senders, receivers, out, LMAX: tl.constexpr, MMAX: tl.constexpr, KEPT: tl.constexpr,
    RADIAL: tl.constexpr, C: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Out = sum over +m and -m of grad * (into @ x), x rotated a second time; grid as for `messages`."""
    edge, end = (tl.program_id(0) // 2).to(tl.int64), tl.program_id(0) % 2
    node = tl.where(end == 0, tl.load(senders + edge), tl.load(receivers + edge)).to(tl.int64)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    K: tl.constexpr = (LMAX + 1) * (LMAX + 1)
    x += node * (K * C)
    into += edge * (KEPT * K)
    grad += edge * (KEPT * 2 * C) + end * C
    out += edge * (RADIAL * 2 * C) + end * C
    for l in tl.static_range(LMAX + 1):
        plus, minus = _rotated(x, into, c, l, LMAX, MMAX, C, BLOCK_M, BLOCK_C, ACC)
        m, plus_row, minus_row, radial_row = _tables(l, LMAX, BLOCK_M)
        there = ((m <= l) & (m <= MMAX))[:, None] & (c < C)
        place = grad + c
        plus *= tl.load(place + plus_row[:, None] * (2 * C), mask=there, other=0.0).to(ACC)
        minus *= tl.load(place + minus_row[:, None] * (2 * C), mask=there & (m > 0)[:, None], other=0.0).to(ACC)
        total = (plus + minus).to(out.dtype.element_ty)
        tl.store(out + radial_row[:, None] * (2 * C) + c, total, mask=there)


@triton.jit
@no_type_check
def _add_degree(
    total, rows, weights, matrix, width, c, l: tl.constexpr, LMAX: tl.constexpr,
    MMAX: tl.constexpr, C: tl.constexpr, BLOCK_K: tl.constexpr, RADIAL: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Add one edge's matrix.T @ (weights * rows) to the coefficients of degree `l`, [BLOCK_K, BLOCK_C].

    `weights` point to the edge's radial weights if RADIAL, else they are one number per channel.
    """
    k = tl.arange(0, BLOCK_K)
    columns = matrix + l * l + k
    for i in tl.static_range(2 * (l if l < MMAX else MMAX) + 1):  # m = 0, +1, -1, +2, -2, ...
        total = _add_row(
            total, rows, weights, columns, width, c, k, l, (i + 1) // 2, (i > 0) & (i % 2 == 0), LMAX, C,
            RADIAL, ACC,
        )  # fmt: skip
    return total


@triton.jit
@no_type_check
def _add_row(
    total, rows, weights, columns, width, c, k, l: tl.constexpr, m: tl.constexpr, MINUS: tl.constexpr,
    LMAX: tl.constexpr, C: tl.constexpr, RADIAL: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    PLUS: tl.constexpr = l if m == 0 else (2 * m - 1) * (LMAX + 1) - m * (m - 1) + l - m
    ROW: tl.constexpr = PLUS + LMAX + 1 - m if MINUS else PLUS
    row = tl.load(rows + ROW * width + c, mask=c < C, other=0.0).to(ACC)
    if RADIAL:
        WEIGHT: tl.constexpr = m * (LMAX + 1) - m * (m - 1) // 2 + l - m
        row *= tl.load(weights + WEIGHT * width + c, mask=c < C, other=0.0).to(ACC)
    else:
        row *= weights
    turn = tl.load(columns + ROW * (LMAX + 1) * (LMAX + 1), mask=k < 2 * l + 1, other=0.0).to(ACC)
    return total + turn[:, None] * row


@triton.jit
@no_type_check
def _store_degree(total, out, c, l: tl.constexpr, C: tl.constexpr, BLOCK_K: tl.constexpr):
    k = tl.arange(0, BLOCK_K)
    there = (k < 2 * l + 1)[:, None] & (c < C)
    tl.store(out + (l * l + k)[:, None] * C + c, total.to(out.dtype.element_ty), mask=there)


@triton.jit
@no_type_check
def _attention(attention, edge, c, HEADS: tl.constexpr, C: tl.constexpr, BLOCK_C: tl.constexpr, ACC: tl.constexpr):
    """The weight of each channel of an edge; 1 without heads."""
    weights = tl.full((1, BLOCK_C), 1.0, dtype=ACC)
    if HEADS > 0:
        weights = tl.load(attention + edge * HEADS + c // (C // HEADS), mask=c < C, other=0.0).to(ACC)
    return weights


@triton.jit
@no_type_check
def node_gradient(
    grad, radial, into, row_pointers, sender_order, sender_pointers, out, LMAX: tl.constexpr, MMAX: tl.constexpr,
    KEPT: tl.constexpr, RADIAL: tl.constexpr, C: tl.constexpr, BLOCK_C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """out[node] = sum over its edges, received, then sent, of into.T @ (radial * grad); grid as `back_and_sum`."""
    for l in tl.static_range(LMAX + 1):
        if tl.program_id(0) % (LMAX + 1) == l:
            _node_gradient_of_degree(
                grad, radial, into, row_pointers, sender_order, sender_pointers, out, l, LMAX, MMAX, KEPT, RADIAL, C,
                BLOCK_C, ACC,
            )  # fmt: skip


@triton.jit
@no_type_check
def _node_gradient_of_degree(
    grad, radial, into, row_pointers, sender_order, sender_pointers, out, l: tl.constexpr, LMAX: tl.constexpr,
    MMAX: tl.constexpr, KEPT: tl.constexpr, RADIAL: tl.constexpr, C: tl.constexpr, BLOCK_C: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    node = (tl.program_id(0) // (LMAX + 1)).to(tl.int64)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    K: tl.constexpr = (LMAX + 1) * (LMAX + 1)
    BLOCK_K: tl.constexpr = 4 if l < 2 else (8 if l < 4 else (16 if l < 8 else (32 if l < 16 else 64)))
    total = tl.zeros((BLOCK_K, BLOCK_C), dtype=ACC)
    for edge in range(tl.load(row_pointers + node), tl.load(row_pointers + node + 1)):
        total = _add_degree(
            total, grad + edge * (KEPT * 2 * C) + C, radial + edge * (RADIAL * 2 * C) + C, into + edge * (KEPT * K),
            2 * C, c, l, LMAX, MMAX, C, BLOCK_K, True, ACC,
        )  # fmt: skip
    for position in range(tl.load(sender_pointers + node), tl.load(sender_pointers + node + 1)):
        edge = tl.load(sender_order + position)
        total = _add_degree(
            total, grad + edge * (KEPT * 2 * C), radial + edge * (RADIAL * 2 * C), into + edge * (KEPT * K),
            2 * C, c, l, LMAX, MMAX, C, BLOCK_K, True, ACC,
        )  # fmt: skip
    _store_degree(total, out + node * (K * C), c, l, C, BLOCK_K)


@triton.jit
@no_type_check
def back_and_sum(
    values, attention, back, edge_stride, row_pointers, out, LMAX: tl.constexpr,
    MMAX: tl.constexpr, KEPT: tl.constexpr, HEADS: tl.constexpr, C: tl.constexpr, BLOCK_C: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """out[node] = sum over its edges of back @ (attention * values); grid (nodes x degrees, channel tiles)."""
    for l in tl.static_range(LMAX + 1):
        if tl.program_id(0) % (LMAX + 1) == l:
            _back_and_sum_of_degree(
                values, attention, back, edge_stride, row_pointers, out, l, LMAX, MMAX,
                KEPT, HEADS, C, BLOCK_C, ACC,
            )  # fmt: skip


@triton.jit
@no_type_check
def _back_and_sum_of_degree(
    values, attention, back, edge_stride, row_pointers, out, l: tl.constexpr,
    LMAX: tl.constexpr, MMAX: tl.constexpr, KEPT: tl.constexpr, HEADS: tl.constexpr, C: tl.constexpr,
    BLOCK_C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    node = (tl.program_id(0) // (LMAX + 1)).to(tl.int64)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    BLOCK_K: tl.constexpr = 4 if l < 2 else (8 if l < 4 else (16 if l < 8 else (32 if l < 16 else 64)))
    total = tl.zeros((BLOCK_K, BLOCK_C), dtype=ACC)
    for edge in range(tl.load(row_pointers + node), tl.load(row_pointers + node + 1)):
        weights = _attention(attention, edge, c, HEADS, C, BLOCK_C, ACC)
        total = _add_degree(
            total, values + edge * (KEPT * C), weights, back + edge * edge_stride, C, c,
            l, LMAX, MMAX, C, BLOCK_K, False, ACC,
        )  # fmt: skip
    _store_degree(total, out + node * ((LMAX + 1) * (LMAX + 1) * C), c, l, C, BLOCK_K)


@triton.jit
@no_type_check
def back_gradient(
    grad, values, attention, back, edge_stride, receivers, grad_values, grad_attention,
    LMAX: tl.constexpr, MMAX: tl.constexpr, KEPT: tl.constexpr, HEADS: tl.constexpr, C: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Gradients of `back_and_sum` for values and attention, in one pass; grid (edges), all channels at once."""
    edge = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, BLOCK_C)[None, :]
    grad += tl.load(receivers + edge).to(tl.int64) * ((LMAX + 1) * (LMAX + 1) * C)
    back += edge * edge_stride
    values += edge * (KEPT * C)
    grad_values += edge * (KEPT * C)
    weights = _attention(attention, edge, c, HEADS, C, BLOCK_C, ACC)
    score = tl.zeros((1, BLOCK_C), dtype=ACC)
    for l in tl.static_range(LMAX + 1):
        plus, minus = _rotated(grad, back, c, l, LMAX, MMAX, C, BLOCK_M, BLOCK_C, ACC)
        m, plus_row, minus_row, _ = _tables(l, LMAX, BLOCK_M)
        there = ((m <= l) & (m <= MMAX))[:, None] & (c < C)
        negative = there & (m > 0)[:, None]
        at_plus, at_minus = plus_row[:, None] * C + c, minus_row[:, None] * C + c
        if HEADS > 0:
            score += tl.sum(plus * tl.load(values + at_plus, mask=there, other=0.0).to(ACC), axis=0)[None, :]
            score += tl.sum(minus * tl.load(values + at_minus, mask=negative, other=0.0).to(ACC), axis=0)[None, :]
        tl.store(grad_values + at_plus, (plus * weights).to(grad_values.dtype.element_ty), mask=there)
        tl.store(grad_values + at_minus, (minus * weights).to(grad_values.dtype.element_ty), mask=negative)
    _store_scores(score, grad_attention, edge, c, HEADS, C)


@triton.jit
@no_type_check
def _store_scores(score, grad_attention, edge, c, HEADS: tl.constexpr, C: tl.constexpr):
    for h in tl.static_range(HEADS):
        total = tl.sum(tl.where(c // (C // HEADS) == h, score, 0.0), axis=1)
        tl.store(grad_attention + edge * HEADS + h + tl.arange(0, 1), total.to(grad_attention.dtype.element_ty))


@triton.jit
@no_type_check
def back_and_sum_dense(
    values, attention, back, edge_stride, column_stride, row_stride, row_pointers, out, K: tl.constexpr,
    KEPT: tl.constexpr, HEADS: tl.constexpr, C: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_C: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """`back_and_sum` for any part of the matrices; grid (nodes x coefficient tiles, channel tiles)."""
    TILES: tl.constexpr = (K + BLOCK_K - 1) // BLOCK_K
    k = tl.program_id(0) % TILES * BLOCK_K + tl.arange(0, BLOCK_K)
    node = (tl.program_id(0) // TILES).to(tl.int64)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    total = tl.zeros((BLOCK_K, BLOCK_C), dtype=ACC)
    for edge in range(tl.load(row_pointers + node), tl.load(row_pointers + node + 1)):
        weights = _attention(attention, edge, c, HEADS, C, BLOCK_C, ACC)
        for row in range(KEPT):
            value = tl.load(values + (edge * KEPT + row) * C + c, mask=c < C, other=0.0).to(ACC) * weights
            turn = tl.load(back + edge * edge_stride + k * column_stride + row * row_stride, mask=k < K, other=0.0).to(
                ACC
            )
            total += turn[:, None] * value
    place = out + (node * K + k[:, None]) * C + c
    tl.store(place, total.to(out.dtype.element_ty), mask=(k < K)[:, None] & (c < C))


@triton.jit
@no_type_check
def back_gradient_dense(
    grad, values, attention, back, edge_stride, column_stride, row_stride, receivers, grad_values, grad_attention,
    K: tl.constexpr, KEPT: tl.constexpr, HEADS: tl.constexpr, C: tl.constexpr, BLOCK_C: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """`back_gradient` for any part of the matrices; grid (edges), all channels at once."""
    edge = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, BLOCK_C)[None, :]
    grad += tl.load(receivers + edge).to(tl.int64) * (K * C)
    weights = _attention(attention, edge, c, HEADS, C, BLOCK_C, ACC)
    score = tl.zeros((1, BLOCK_C), dtype=ACC)
    for row in range(KEPT):
        total = tl.zeros((1, BLOCK_C), dtype=ACC)
        for k in range(K):
            turn = tl.load(back + edge * edge_stride + k * column_stride + row * row_stride).to(ACC)
            total += turn * tl.load(grad + k * C + c, mask=c < C, other=0.0).to(ACC)
        place = (edge * KEPT + row) * C + c
        if HEADS > 0:
            score += total * tl.load(values + place, mask=c < C, other=0.0).to(ACC)
        tl.store(grad_values + place, (total * weights).to(grad_values.dtype.element_ty), mask=c < C)
    _store_scores(score, grad_attention, edge, c, HEADS, C)
