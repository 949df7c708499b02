"""Parameters that a shortcut leaves out keep a gradient: zero."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def with_zero_gradient(x: Tensor, *parameters: Tensor) -> Tensor:
    """`x` itself; in the backward pass `parameters` get gradient zero instead of none.

    DistributedDataParallel waits for a gradient of every parameter, and AdamW decays only those that have one.
    """
    return _ZeroGradient.apply(x, *parameters)


class _ZeroGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(*parameters)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return grad, *(torch.zeros_like(parameter) for parameter in ctx.saved_tensors)
