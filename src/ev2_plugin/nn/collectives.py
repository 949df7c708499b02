"""Rows that several processes hold together, and sums over processes, both followed by autograd.

Backward passes are the transposes of the forward passes and nothing else: a gradient is that of the *sum* of what all
processes of the group compute. Where all of them compute the same loss, that is the loss times their number, which the
mean over processes of DistributedDataParallel divides by again.

Slices are passed on one after the other, each by its owner. They need not be of one size, and nothing is padded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


def gather_rows(rows: Tensor, group: dist.ProcessGroup, bounds: tuple[int, ...]) -> Tensor:
    """Rows of all processes.

    Args:
        rows: This process's own, [own, ...].
        group: The processes.
        bounds: The first row of each process, and the number of all rows.

    Returns:
        [all, ...], the same on every process. Backward: each process gets the sum of its rows' gradients.
    """
    return _GatherRows.apply(rows, group, bounds)


def sum_over_group(values: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Sum over processes, the same on each. Backward: the sum of their gradients."""
    return _SumOverGroup.apply(values, group)


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, group: dist.ProcessGroup, bounds: tuple[int, ...]) -> Tensor:
        ctx.group, ctx.bounds = group, bounds
        own = _own(group, bounds)
        everything = rows.new_empty(bounds[-1], *rows.shape[1:])
        everything[own] = rows
        _each_slice(everything, group, bounds, dist.broadcast)
        return everything

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        total = grad.clone(memory_format=torch.contiguous_format)
        _each_slice(total, ctx.group, ctx.bounds, dist.reduce)
        return total[_own(ctx.group, ctx.bounds)], None, None


class _SumOverGroup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return _summed(values, group)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _summed(grad, ctx.group), None


def _own(group: dist.ProcessGroup, bounds: tuple[int, ...]) -> slice:
    rank = dist.get_rank(group)
    return slice(bounds[rank], bounds[rank + 1])


def _each_slice(
    rows: Tensor, group: dist.ProcessGroup, bounds: tuple[int, ...], collective: Callable[..., Any]
) -> None:
    """A collective for every process's slice, in place, with that process as its root."""
    started = [
        collective(rows[start:stop], dist.get_global_rank(group, rank), group=group, async_op=True)
        for rank, (start, stop) in enumerate(zip(bounds, bounds[1:], strict=False))
        if start < stop
    ]
    for work in started:
        work.wait()


def _summed(values: Tensor, group: dist.ProcessGroup) -> Tensor:
    total = values.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=group)
    return total
