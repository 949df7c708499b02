r"""The SO(2) linear map as written in the paper.

Orders +m and -m of one edge form a complex number; the map multiplies it by complex weights that mix degrees and
channels:

.. math:: y_{+m} = W_r x_{+m} - W_i x_{-m}, \qquad y_{-m} = W_r x_{-m} + W_i x_{+m}, \qquad y_0 = W_0 x_0 + b.

Source: eSCN (arXiv:2302.03655), section 3; official code (so2_ops.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ev2_plugin.so3.layout import CoefficientLayout


@dataclass(frozen=True)
class SO2Weights:
    """Parameters of the map.

    Attributes:
        zero: Weight of order 0, [scalars + degrees * out, degrees * in].
        bias: Bias of order 0, [scalars + degrees * out].
        pairs: For each m = 1..mmax the real part above the imaginary part, [2 * degrees * out, degrees * in].
        num_scalars: Leading outputs of order 0 that are invariant scalars besides the coefficients.
    """

    zero: Tensor
    bias: Tensor
    pairs: tuple[Tensor, ...]
    num_scalars: int = 0


def so2_linear(
    x: Float[Tensor, "edges kept channels"],
    weights: SO2Weights,
    layout: CoefficientLayout,
) -> tuple[Float[Tensor, "edges kept out"], Float[Tensor, "edges scalars"]]:
    """Apply the map to edge features in their edge frames.

    Args:
        x: Order-major edge features.
        weights: Parameters.
        layout: Which row is which.

    Returns:
        Order-major edge features and the extra invariant scalars.
    """
    rows = x.split(layout.block_sizes, dim=1)
    zero = F.linear(rows[0].flatten(1), weights.zero, weights.bias)
    scalars, zero = zero.split((weights.num_scalars, zero.shape[1] - weights.num_scalars), dim=1)
    out = [zero.unflatten(1, (layout.order_sizes[0], -1))]
    for m, weight in enumerate(weights.pairs, 1):
        plus, minus = (order.flatten(1) for order in rows[m].chunk(2, dim=1))
        real, imaginary = weight.chunk(2, dim=0)
        for y in (
            F.linear(plus, real) - F.linear(minus, imaginary),
            F.linear(minus, real) + F.linear(plus, imaginary),
        ):
            out.append(y.unflatten(1, (layout.order_sizes[m], -1)))
    return torch.cat(out, dim=1), scalars
