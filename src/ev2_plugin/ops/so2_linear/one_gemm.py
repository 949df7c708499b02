"""The SO(2) linear map with one matrix product per |m|.

The complex product is written as a real matrix [[W_r, -W_i], [W_i, W_r]] over the pair of orders, whose rows are
neighbours in the order-major layout: the same multiplications, half the calls, and neither sums nor copies of
edge-sized tensors around them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ev2_plugin.ops.so2_linear.reference import SO2Weights
from ev2_plugin.so3.layout import CoefficientLayout


def so2_linear(
    x: Tensor, radial: Tensor | None, weights: SO2Weights, layout: CoefficientLayout
) -> tuple[Tensor, Tensor]:
    """Same contract as the reference."""
    rows = x.split(layout.block_sizes, dim=1)
    factors = radial.split(layout.order_sizes, dim=1) if radial is not None else None

    zero = rows[0] if factors is None else rows[0] * factors[0]
    y = F.linear(zero.flatten(1), weights.zero, weights.bias)
    scalars, y = y.split((weights.num_scalars, y.shape[1] - weights.num_scalars), dim=1)
    out = [y]
    for m, weight in enumerate(weights.pairs, start=1):
        pair = rows[m]
        if factors is not None:
            pair = pair.unflatten(1, (2, -1)) * factors[m].unsqueeze(1)
        out.append(F.linear(pair.flatten(1), complex_as_real(weight)))
    return torch.cat(out, dim=1).unflatten(1, (layout.num_kept, -1)), scalars


def complex_as_real(weight: Tensor) -> Tensor:
    """[W_r; W_i] -> [[W_r, -W_i], [W_i, W_r]]."""
    real, imaginary = weight.chunk(2, dim=0)
    return torch.cat((torch.cat((real, -imaginary), dim=1), torch.cat((imaginary, real), dim=1)), dim=0)
