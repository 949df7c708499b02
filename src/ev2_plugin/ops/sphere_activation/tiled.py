"""The activations in tiles that stay in cache, recomputed in the backward pass.

The signal on the grid is many times larger than its coefficients (324 points for 25 coefficients). It exists only
for a few rows at a time, and autograd keeps the coefficients alone.
"""

# no `from __future__ import annotations`: custom_op reads the annotations as types

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor

from ev2_plugin.ops.autocast import without_autocast
from ev2_plugin.ops.linear import Precision, product
from ev2_plugin.ops.pointwise import silu_and_slope, silu_in_place
from ev2_plugin.ops.receiver_sum import accumulation_dtype

TILE_ELEMENTS = {"cpu": 2**18, "cuda": 2**26}
"""Grid values per tile: 1 MB of float32 fits a core's L2 cache; a GPU wants its memory filled instead."""


def silu_on_sphere(x: Tensor, to_grid: Tensor, from_grid: Tensor) -> Tensor:
    """Same contract as the reference."""
    return _silu_on_sphere(x, to_grid.to(x.dtype), from_grid.to(x.dtype))


def mlp_on_sphere(
    x: Tensor, weight: Tensor, to_grid: Tensor, from_grid: Tensor, precision: Precision = "highest"
) -> Tensor:
    """Same contract as the reference."""
    return _mlp_on_sphere(x, weight.to(x.dtype), to_grid.to(x.dtype), from_grid.to(x.dtype), precision)


def _tiles(x: Tensor, num_points: int) -> Iterator[slice]:
    elements = TILE_ELEMENTS.get(x.device.type, TILE_ELEMENTS["cpu"])
    rows = max(1, elements // (num_points * x.shape[-1]))
    return (slice(start, start + rows) for start in range(0, len(x), rows))


def _on_rows(matrix: Tensor, x: Tensor) -> Tensor:
    """The same matrix times every row's [columns, channels]."""
    return torch.bmm(matrix.expand(len(x), -1, -1), x)


@torch.library.custom_op("ev2::silu_on_sphere", mutates_args=())
def _silu_on_sphere(x: Tensor, to_grid: Tensor, from_grid: Tensor) -> Tensor:
    out = x.new_empty(len(x), len(from_grid), x.shape[-1])
    with without_autocast(x):
        for tile in _tiles(x, len(to_grid)):
            out[tile] = _on_rows(from_grid, silu_in_place(_on_rows(to_grid, x[tile])))
    return out


@torch.library.custom_op("ev2::silu_on_sphere_backward", mutates_args=())
def _silu_on_sphere_backward(grad: Tensor, x: Tensor, to_grid: Tensor, from_grid: Tensor) -> Tensor:
    grad_x = torch.empty_like(x)
    with without_autocast(x):
        for tile in _tiles(x, len(to_grid)):
            _, slope = silu_and_slope(_on_rows(to_grid, x[tile]))
            grad_x[tile] = _on_rows(to_grid.T, slope.mul_(_on_rows(from_grid.T, grad[tile])))
    return grad_x


@torch.library.custom_op("ev2::mlp_on_sphere", mutates_args=())
def _mlp_on_sphere(x: Tensor, weight: Tensor, to_grid: Tensor, from_grid: Tensor, precision: str) -> Tensor:
    out = x.new_empty(len(x), len(from_grid), x.shape[-1])
    with without_autocast(x):
        for tile in _tiles(x, len(to_grid)):
            hidden = silu_in_place(_on_rows(to_grid, x[tile]))
            points = product(hidden.flatten(0, 1), weight.T, cast(Precision, precision)).view_as(hidden)
            out[tile] = _on_rows(from_grid, silu_in_place(points))
    return out


@torch.library.custom_op("ev2::mlp_on_sphere_backward", mutates_args=())
def _mlp_on_sphere_backward(
    grad: Tensor, x: Tensor, weight: Tensor, to_grid: Tensor, from_grid: Tensor, precision: str
) -> tuple[Tensor, Tensor]:
    grad_x, grad_weight = torch.empty_like(x), torch.zeros_like(weight, dtype=accumulation_dtype(weight))
    with without_autocast(x):
        for tile in _tiles(x, len(to_grid)):
            hidden, hidden_slope = silu_and_slope(_on_rows(to_grid, x[tile]))
            hidden = hidden.flatten(0, 1)  # [rows * points, channels]
            _, slope = silu_and_slope(product(hidden, weight.T, cast(Precision, precision)))
            grad_points = slope.mul_(_on_rows(from_grid.T, grad[tile]).flatten(0, 1))
            grad_weight += product(grad_points.T, hidden, cast(Precision, precision))
            grad_hidden = product(grad_points, weight, cast(Precision, precision)).view_as(hidden_slope)
            grad_x[tile] = _on_rows(to_grid.T, hidden_slope.mul_(grad_hidden))
    return grad_x, grad_weight.to(weight.dtype)


@_silu_on_sphere.register_fake
def _(x: Tensor, to_grid: Tensor, from_grid: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], from_grid.shape[0], x.shape[-1])


@_silu_on_sphere_backward.register_fake
def _(grad: Tensor, x: Tensor, to_grid: Tensor, from_grid: Tensor) -> Tensor:
    return torch.empty_like(x)


@_mlp_on_sphere.register_fake
def _(x: Tensor, weight: Tensor, to_grid: Tensor, from_grid: Tensor, precision: str) -> Tensor:
    return x.new_empty(x.shape[0], from_grid.shape[0], x.shape[-1])


@_mlp_on_sphere_backward.register_fake
def _(
    grad: Tensor, x: Tensor, weight: Tensor, to_grid: Tensor, from_grid: Tensor, precision: str
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(weight)


def _save_silu(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward_silu(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return _silu_on_sphere_backward(grad, *ctx.saved_tensors), None, None


def _save_mlp(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.precision = inputs
    ctx.save_for_backward(*tensors)


def _backward_mlp(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return *_mlp_on_sphere_backward(grad, *ctx.saved_tensors, ctx.precision), None, None, None


_silu_on_sphere.register_autograd(_backward_silu, setup_context=_save_silu)
_mlp_on_sphere.register_autograd(_backward_mlp, setup_context=_save_mlp)
