"""Autocast and fused operations.

A fused operation casts its inputs once, where it is called, and then computes in their dtype: autocast must not cast
its intermediates a second time, and its backward pass runs outside autocast anyway.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from ev2_plugin.ops.linear import Precision


def compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype of matrix products of `x`: autocast's, if it is on."""
    device = x.device.type
    if x.is_floating_point() and x.dtype != torch.float64 and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return x.dtype


def in_precision(precision: Precision, like: Tensor) -> AbstractContextManager:
    """A context for all of the model: autocast to bfloat16 for `bf16`, nothing for the others."""
    if precision != "bf16" or like.dtype == torch.float64:
        return nullcontext()
    return torch.autocast(like.device.type, dtype=torch.bfloat16)


def without_autocast(x: Tensor) -> torch.autocast:
    """A context in which every operation on the device of `x` computes in its inputs' dtype."""
    return torch.autocast(x.device.type, enabled=False)
