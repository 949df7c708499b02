r"""A product of fp32 matrices as three products of TF32 matrices.

TF32 keeps 10 explicit mantissa bits of fp32's 23. A number and what its rounding leaves out are both such numbers,
to fp32's accuracy, so with :math:`x = x_h + x_l` and :math:`|x_l| \le 2^{-11} |x|`

.. math:: a b = a_h b_h + a_h b_l + a_l b_h + a_l b_l,

where the last term, :math:`2^{-22}` of the first, is left out. The products of TF32 numbers are exact in fp32 and are
summed in fp32.

Source: Henry, Tang and Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision
Computations" (arXiv:1904.06376); Ootomo and Yokota (arXiv:2203.03341).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float32
from torch import Tensor

DROPPED_BITS = 13
"""Mantissa bits of fp32 that TF32 has not."""

LARGEST = (2 - 2.0**-10) * 2.0**127
"""The largest finite TF32 number."""

Split = Callable[[Tensor], tuple[Tensor, Tensor]]
"""x -> a TF32 number and the rest."""

AddProduct = Callable[[Tensor | None, Tensor, Tensor], Tensor]
"""(total, a, b) -> total + a b, written over `total` if there is one; a and b are read as TF32."""


def round_to_tf32(x: Float32[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
    """The nearest finite TF32 numbers, ties away from zero; NaN stays NaN.

    Half a unit of the last kept place is added to the bits and the rest is cut off: a carry runs into the exponent, as
    it must. Beyond the largest TF32 number it would run into infinity's, hence the clamp.
    """
    bits = x.clamp(-LARGEST, LARGEST).view(torch.int32)
    bits.add_(1 << (DROPPED_BITS - 1)).bitwise_and_(-1 << DROPPED_BITS)
    return bits.view(torch.float32)


def split(x: Float32[Tensor, "*shape"]) -> tuple[Float32[Tensor, "*shape"], Float32[Tensor, "*shape"]]:
    """`x` as the sum of a TF32 number and a remainder, exactly; infinity is in the remainder."""
    high = round_to_tf32(x)
    return high, x - high


def split_product(
    a: Float32[Tensor, "*batch m k"],
    b: Float32[Tensor, "*batch k n"],
    bias: Float32[Tensor, " n"] | None,
    add_product: AddProduct,
    parts: Split = split,
) -> Float32[Tensor, "*batch m n"]:
    """A b + bias from three TF32 products, the small ones first.

    Infinities and NaN come out as they do of the plain product: no term multiplies two remainders.

    Args:
        a: Left factor; any strides.
        b: Right factor; any strides.
        bias: Added to every row.
        add_product: The TF32 product.
        parts: The split.
    """
    a_high, a_low = parts(a)
    b_high, b_low = parts(b)
    total = None if bias is None else bias.repeat(*a.shape[:-1], 1)
    total = add_product(total, a_low, b_high)
    total = add_product(total, a_high, b_low)
    return add_product(total, a_high, b_high)
