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


def so2_linear(x: Tensor, weights: SO2Weights, layout: CoefficientLayout) -> tuple[Tensor, Tensor]:
    """Same contract as the reference."""
    zero, *pairs = (rows.flatten(1) for rows in x.split(layout.block_sizes, dim=1))
    y = F.linear(zero, weights.zero, weights.bias)
    scalars, y = y.split((weights.num_scalars, y.shape[1] - weights.num_scalars), dim=1)
    out = [F.linear(pair, complex_as_real(weight)) for pair, weight in zip(pairs, weights.pairs, strict=True)]
    return torch.cat((y, *out), dim=1).unflatten(1, (layout.num_kept, -1)), scalars


def complex_as_real(weight: Tensor) -> Tensor:
    """[W_r; W_i] -> [[W_r, -W_i], [W_i, W_r]]."""
    real, imaginary = weight.chunk(2, dim=0)
    return torch.cat((torch.cat((real, -imaginary), dim=1), torch.cat((imaginary, real), dim=1)), dim=0)
