"""Which arithmetic a dense product uses.

======= ===============================================================================================
highest fp32 everywhere
high    TF32 units of the GPU at fp32's accuracy: each product is three products of split factors
tf32    TF32 units of the GPU: factors rounded to 10 bits, sums in fp32
bf16    the model runs under autocast to bfloat16; a product takes its factors as they come
======= ===============================================================================================

The choice concerns fp32 factors on a GPU. CPUs have no TF32 units: `high` and `tf32` are plain fp32 there. float64
factors, and whatever autocast or a caller has made half as wide, are multiplied as they are.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ev2_plugin.ops.linear.tensor_cores import tensor_core_product

Precision = Literal["highest", "high", "tf32", "bf16"]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def product(
    a: Float[Tensor, "*batch m k"], b: Float[Tensor, "*batch k n"], precision: Precision
) -> Float[Tensor, "*batch m n"]:
    """The matrix product of two factors of one dtype, or of a batch of them.

    Args:
        a: Left factor; any strides.
        b: Right factor; any strides.
        precision: How fp32 factors are multiplied.
    """
    if _on_tensor_cores(a, precision):
        return tensor_core_product(a, b, None, precision == "high")
    return a @ b


def linear(
    x: Float[Tensor, "*rows k"], weight: Float[Tensor, "n k"], bias: Float[Tensor, " n"] | None, precision: Precision
) -> Float[Tensor, "*rows n"]:
    """X times the transposed weight, plus the bias; the gradients' products have the same precision.

    Args:
        x: Any leading dimensions, any strides.
        weight: One row per output.
        bias: One number per output.
        precision: How fp32 factors are multiplied.
    """
    if not _on_tensor_cores(x, precision):
        return F.linear(x, weight, bias)
    rows = torch.atleast_2d(x).flatten(0, -2)
    return tensor_core_product(rows, weight.T, bias, precision == "high").view(*x.shape[:-1], len(weight))


def _on_tensor_cores(x: Tensor, precision: Precision) -> bool:
    if precision not in ("high", "tf32") or x.dtype != torch.float32:
        return False
    if torch.is_autocast_enabled(x.device.type):
        return False
    if x.device.type != "cuda":
        if not torch.compiler.is_compiling():
            _say_plain(precision, x.device.type)
        return False
    return True


@cache
def _say_plain(precision: Precision, device: str) -> None:
    logging.info(f"precision {precision}: device {device} has no TF32 units, products are plain fp32")
