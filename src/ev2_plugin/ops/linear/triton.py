"""The split into two parts in one pass over memory: one reading and two writings instead of nine passes.

Kernel and wrapper share a file, as there is one of each.
"""

# no `from __future__ import annotations`: the interpreter compares annotations with tl.constexpr

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from ev2_plugin.ops.linear.split import DROPPED_BITS, LARGEST
from ev2_plugin.ops.triton_launch import device_of, tiles

BLOCK = 1024


def split(x: Tensor) -> tuple[Tensor, Tensor]:
    """Same contract as `ops.linear.split.split`, except that NaN may be in the remainder alone.

    Args:
        x: Any strides; parts of a wider tensor are copied first.
    """
    high = torch.empty_like(x)
    if x.stride() != high.stride():
        x = x.contiguous()
        high = torch.empty_like(x)
    low = torch.empty_like(x)
    if x.numel():
        with device_of(x):
            split_kernel[(tiles(x.numel(), BLOCK),)](x, high, low, x.numel(), LARGEST, DROPPED_BITS, BLOCK)
    return high, low


@triton.jit
@no_type_check
def split_kernel(
    x, high, low, size, LARGEST: tl.constexpr, DROPPED_BITS: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """High = x rounded to TF32, at most LARGEST; low = x - high; all three laid out alike."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = i < size
    value = tl.load(x + i, mask=there, other=0.0)
    clamped = tl.minimum(tl.maximum(value, -LARGEST), LARGEST)
    bits = clamped.to(tl.int32, bitcast=True) + (1 << (DROPPED_BITS - 1))
    rounded = ((bits >> DROPPED_BITS) << DROPPED_BITS).to(tl.float32, bitcast=True)
    tl.store(high + i, rounded, mask=there)
    tl.store(low + i, value - rounded, mask=there)
