"""Kernels of the sphere activation: the signal on the grid exists for one tile of points, in registers.

The columns of a tile are pairs (row, channel) of the features: every one of them is multiplied by the same two
matrices, coefficients -> points and points -> coefficients, which the caller has padded with zeros to whole tiles. A
padded point adds nothing, a padded coefficient is not stored.
"""

# no `from __future__ import annotations`: the interpreter compares annotations with tl.constexpr

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def _product(left, right, DOT: tl.constexpr):
    """Matrix product; DOT names its arithmetic: "sum" for float64, of which the compiler has no product."""
    if DOT == "sum":
        out = tl.sum(left[:, :, None] * right[None, :, :], axis=1)
    else:
        out = tl.dot(left, right, input_precision=DOT)
    return out


@triton.jit
@no_type_check
def _load(x, k, n, num_columns, COEFFICIENTS: tl.constexpr, C: tl.constexpr, ACC: tl.constexpr):
    """Coefficients k of columns n, [coefficients, columns]."""
    place = n // C * (COEFFICIENTS * C) + n % C
    there = (k < COEFFICIENTS)[:, None] & (n < num_columns)[None, :]
    return tl.load(x + k[:, None] * C + place[None, :], mask=there, other=0.0).to(ACC)


@triton.jit
@no_type_check
def _store(out, total, k, n, num_columns, COEFFICIENTS: tl.constexpr, C: tl.constexpr):
    place = n // C * (COEFFICIENTS * C) + n % C
    there = (k < COEFFICIENTS)[:, None] & (n < num_columns)[None, :]
    tl.store(out + k[:, None] * C + place[None, :], total.to(out.dtype.element_ty), mask=there)


@triton.jit
@no_type_check
def silu(
    x, to_grid, from_grid, out, num_columns, K_IN: tl.constexpr, K_OUT: tl.constexpr, POINTS: tl.constexpr,
    C: tl.constexpr, BLOCK_IN: tl.constexpr, BLOCK_OUT: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr,
    ACC: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """The activation; to_grid [POINTS, BLOCK_IN], from_grid [BLOCK_OUT, POINTS]."""
    n = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    k_in, k_out, p = tl.arange(0, BLOCK_IN), tl.arange(0, BLOCK_OUT), tl.arange(0, BLOCK_P)
    coefficients = _load(x, k_in, n, num_columns, K_IN, C, ACC)
    total = tl.zeros((BLOCK_OUT, BLOCK_N), dtype=ACC)
    for start in range(0, POINTS, BLOCK_P):
        there = tl.load(to_grid + (start + p)[:, None] * BLOCK_IN + k_in[None, :])
        back = tl.load(from_grid + k_out[:, None] * POINTS + (start + p)[None, :])
        signal = _product(there, coefficients, DOT)
        total += _product(back, signal / (1.0 + tl.exp(-signal)), DOT)
    _store(out, total, k_out, n, num_columns, K_OUT, C)


@triton.jit
@no_type_check
def silu_gradient(
    grad, x, to_grid, from_grid, out, num_columns, K_IN: tl.constexpr, K_OUT: tl.constexpr, POINTS: tl.constexpr,
    C: tl.constexpr, BLOCK_IN: tl.constexpr, BLOCK_OUT: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr,
    ACC: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Write to_grid.T @ (silu'(to_grid @ x) * (from_grid.T @ grad)), the signal computed a second time."""
    n = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    k_in, k_out, p = tl.arange(0, BLOCK_IN), tl.arange(0, BLOCK_OUT), tl.arange(0, BLOCK_P)
    coefficients = _load(x, k_in, n, num_columns, K_IN, C, ACC)
    gradient = _load(grad, k_out, n, num_columns, K_OUT, C, ACC)
    total = tl.zeros((BLOCK_IN, BLOCK_N), dtype=ACC)
    for start in range(0, POINTS, BLOCK_P):
        there = to_grid + (start + p)[:, None] * BLOCK_IN + k_in[None, :]
        back = from_grid + (start + p)[:, None] + k_out[None, :] * POINTS
        signal = _product(tl.load(there), coefficients, DOT)
        sigmoid = 1.0 / (1.0 + tl.exp(-signal))
        slope = sigmoid * (1.0 + signal * (1.0 - sigmoid))
        transposed = to_grid + (start + p)[None, :] * BLOCK_IN + k_in[:, None]
        total += _product(tl.load(transposed), slope * _product(tl.load(back), gradient, DOT), DOT)
    _store(out, total, k_in, n, num_columns, K_IN, C)
