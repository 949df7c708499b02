"""What every launch of a Triton kernel needs: tile sizes, the dtype of sums, the right device."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor

CHANNEL_TILE = 128
"""Channels per program: four per thread of a warp, which loads 16 bytes of float32 at once."""


def tile(size: int, largest: int = CHANNEL_TILE) -> int:
    """The power of two that holds `size` elements, at most `largest`; what lies beyond `size` is masked."""
    return min(triton.next_power_of_2(max(size, 1)), largest)


def tiles(size: int, width: int) -> int:
    """Number of tiles of `width` elements that hold `size`."""
    return -(-size // width)


def sum_dtype(*tensors: Tensor) -> tl.dtype:
    """Dtype of products and sums: float32, or float64 if any of the tensors is float64."""
    return tl.float64 if any(t.dtype == torch.float64 for t in tensors) else tl.float32


def device_of(x: Tensor) -> AbstractContextManager[None]:
    """The context that launches on the device of `x`."""
    return torch.cuda.device(x.device) if x.device.type == "cuda" else nullcontext()
