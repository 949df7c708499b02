"""SiLU on the sphere without a grid in memory, in Triton.

Coefficients -> points -> SiLU -> coefficients for tiles of points and columns. Autograd keeps the coefficients alone.
The products' arithmetic follows the precision of the model's matrix products; sums are in float32 whatever the dtype of
the features. `ops.sphere_activation.tiled` has the grid MLP, whose time goes into a matrix product.
"""

# no `from __future__ import annotations`: custom_op reads the annotations as types

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ev2_plugin.ops.linear import Precision
from ev2_plugin.ops.sphere_activation import triton_kernels as kernels
from ev2_plugin.ops.triton_launch import device_of, sum_dtype, tile, tiles

POINT_TILE = 32
"""Points per step: the signal of one step stays in registers."""

COLUMN_TILE = 64
"""Pairs of row and channel per program."""


ARITHMETIC: dict[Precision, str] = {"highest": "ieee", "high": "tf32x3", "tf32": "tf32", "bf16": "tf32"}
"""Triton's name of each precision; bfloat16 features are TF32 numbers already."""


def silu_on_sphere(x: Tensor, to_grid: Tensor, from_grid: Tensor, precision: Precision = "highest") -> Tensor:
    """Same contract as the reference."""
    return _silu_on_sphere(x, to_grid, from_grid, "sum" if x.dtype == torch.float64 else ARITHMETIC[precision])


@torch.library.custom_op("ev2_triton::silu_on_sphere", mutates_args=())
def _silu_on_sphere(x: Tensor, to_grid: Tensor, from_grid: Tensor, arithmetic: str) -> Tensor:
    out = x.new_empty(len(x), len(from_grid), x.shape[2])
    if out.numel():
        with device_of(x):
            grid, matrices, sizes = _launch(x, to_grid, from_grid, arithmetic)
            kernels.silu[grid](x.contiguous(), *matrices, out, len(x) * x.shape[2], **sizes)
    return out


@torch.library.custom_op("ev2_triton::silu_on_sphere_backward", mutates_args=())
def _silu_on_sphere_backward(grad: Tensor, x: Tensor, to_grid: Tensor, from_grid: Tensor, arithmetic: str) -> Tensor:
    out = x.new_empty(x.shape)
    if out.numel():
        with device_of(x):
            grid, matrices, sizes = _launch(x, to_grid, from_grid, arithmetic)
            kernels.silu_gradient[grid](grad.contiguous(), x.contiguous(), *matrices, out, len(x) * x.shape[2], **sizes)
    return out


def _launch(
    x: Tensor, to_grid: Tensor, from_grid: Tensor, arithmetic: str
) -> tuple[tuple[int], tuple[Tensor, Tensor], dict[str, Any]]:
    """Programs, matrices padded to whole tiles, and sizes."""
    points, k_in = to_grid.shape
    k_out, channels = len(from_grid), x.shape[2]
    block_in, block_out = (max(tile(k, k * 2), 16) for k in (k_in, k_out))
    padded = tiles(points, POINT_TILE) * POINT_TILE
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    matrices = (
        F.pad(to_grid.to(dtype), (0, block_in - k_in, 0, padded - points)),
        F.pad(from_grid.to(dtype), (0, padded - points, 0, block_out - k_out)),
    )
    sizes = {
        "K_IN": k_in, "K_OUT": k_out, "POINTS": padded, "C": channels, "BLOCK_IN": block_in, "BLOCK_OUT": block_out,
        "BLOCK_P": POINT_TILE, "BLOCK_N": COLUMN_TILE, "ACC": sum_dtype(x), "DOT": arithmetic,
        "num_warps": 4,
    }  # fmt: skip
    return (tiles(len(x) * channels, COLUMN_TILE),), matrices, sizes


@_silu_on_sphere.register_fake
def _(x: Tensor, to_grid: Tensor, from_grid: Tensor, arithmetic: str) -> Tensor:
    return x.new_empty(x.shape[0], from_grid.shape[0], x.shape[2])


@_silu_on_sphere_backward.register_fake
def _(grad: Tensor, x: Tensor, to_grid: Tensor, from_grid: Tensor, arithmetic: str) -> Tensor:
    return x.new_empty(x.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.arithmetic = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return _silu_on_sphere_backward(grad, *ctx.saved_tensors, ctx.arithmetic), None, None, None


_silu_on_sphere.register_autograd(_backward, setup_context=_save)
