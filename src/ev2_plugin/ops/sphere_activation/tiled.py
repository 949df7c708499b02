"""The activations in tiles that stay in cache, recomputed in the backward pass.

The signal on the grid is many times larger than its coefficients (324 points for 25 coefficients). It exists only
for a few rows at a time, and autograd keeps the coefficients alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ev2_plugin.ops.pointwise import silu_and_slope, silu_in_place

TILE_ELEMENTS = {"cpu": 2**18, "cuda": 2**26}
"""Grid values per tile: 1 MB of float32 fits a core's L2 cache; a GPU wants its memory filled instead."""


def silu_on_sphere(x: Tensor, to_grid: Tensor, from_grid: Tensor) -> Tensor:
    """Same contract as the reference."""
    return _SiLUOnSphere.apply(x, to_grid.to(x.dtype), from_grid.to(x.dtype))


def mlp_on_sphere(x: Tensor, weight: Tensor, to_grid: Tensor, from_grid: Tensor) -> Tensor:
    """Same contract as the reference."""
    return _MLPOnSphere.apply(x, weight.to(x.dtype), to_grid.to(x.dtype), from_grid.to(x.dtype))


def _tiles(x: Tensor, num_points: int) -> Iterator[slice]:
    elements = TILE_ELEMENTS.get(x.device.type, TILE_ELEMENTS["cpu"])
    rows = max(1, elements // (num_points * x.shape[-1]))
    return (slice(start, start + rows) for start in range(0, len(x), rows))


def _product(matrix: Tensor, x: Tensor) -> Tensor:
    """The same matrix times every row's [columns, channels]."""
    return torch.bmm(matrix.expand(len(x), -1, -1), x)


class _SiLUOnSphere(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, to_grid: Tensor, from_grid: Tensor) -> Tensor:
        ctx.save_for_backward(x, to_grid, from_grid)
        out = x.new_empty(len(x), len(from_grid), x.shape[-1])
        for tile in _tiles(x, len(to_grid)):
            out[tile] = _product(from_grid, silu_in_place(_product(to_grid, x[tile])))
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        x, to_grid, from_grid = ctx.saved_tensors
        grad_x = torch.empty_like(x)
        for tile in _tiles(x, len(to_grid)):
            _, slope = silu_and_slope(_product(to_grid, x[tile]))
            grad_x[tile] = _product(to_grid.T, slope.mul_(_product(from_grid.T, grad[tile])))
        return grad_x, None, None


class _MLPOnSphere(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, to_grid: Tensor, from_grid: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, to_grid, from_grid)
        out = x.new_empty(len(x), len(from_grid), x.shape[-1])
        for tile in _tiles(x, len(to_grid)):
            hidden = silu_in_place(_product(to_grid, x[tile]))
            out[tile] = _product(from_grid, silu_in_place(hidden @ weight.T))
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, weight, to_grid, from_grid = ctx.saved_tensors
        grad_x, grad_weight = torch.empty_like(x), torch.zeros_like(weight)
        for tile in _tiles(x, len(to_grid)):
            hidden, hidden_slope = silu_and_slope(_product(to_grid, x[tile]))
            _, slope = silu_and_slope(hidden @ weight.T)
            grad_points = slope.mul_(_product(from_grid.T, grad[tile]))  # [rows, points, channels]
            grad_weight.addmm_(grad_points.flatten(0, 1).T, hidden.flatten(0, 1))
            grad_x[tile] = _product(to_grid.T, hidden_slope.mul_(grad_points @ weight))
        return grad_x, grad_weight, None, None
