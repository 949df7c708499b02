"""The SO(2) linear map with one matrix product per |m|.

The complex product is written as a real matrix [[W_r, -W_i], [W_i, W_r]] over the pair of orders, whose rows are
neighbours in the order-major layout: the same multiplications, half the calls, and neither sums nor copies of
edge-sized tensors around them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ev2_plugin.ops.linear import Precision, linear, product
from ev2_plugin.ops.so2_linear.reference import SO2Weights
from ev2_plugin.so3.layout import CoefficientLayout


def so2_linear(
    x: Tensor, weights: SO2Weights, layout: CoefficientLayout, precision: Precision = "highest"
) -> tuple[Tensor, Tensor]:
    """Same contract as the reference."""
    return so2_linear_by_blocks(x, block_matrices(weights), weights, layout, precision)


def so2_linear_by_blocks(
    x: Tensor, matrices: list[Tensor], weights: SO2Weights, layout: CoefficientLayout, precision: Precision
) -> tuple[Tensor, Tensor]:
    """The map with `block_matrices(weights)` made beforehand, for callers that apply it to many parts of the edges."""
    blocks = (rows.flatten(1) for rows in x.split(layout.block_sizes, dim=1))
    biases = (weights.bias, *(None for _ in weights.pairs))
    y, *out = (linear(rows, m, bias, precision) for rows, m, bias in zip(blocks, matrices, biases, strict=True))
    scalars, y = y.split((weights.num_scalars, y.shape[1] - weights.num_scalars), dim=1)
    return torch.cat((y, *out), dim=1).unflatten(1, (layout.num_kept, -1)), scalars


def block_matrices(weights: SO2Weights) -> list[Tensor]:
    """The map as one real matrix per |m|, [outputs, inputs]."""
    return [weights.zero, *(complex_as_real(weight) for weight in weights.pairs)]


def so2_linear_backward(
    x: Tensor,
    grad_out: Tensor,
    grad_scalars: Tensor,
    matrices: list[Tensor],
    layout: CoefficientLayout,
    precision: Precision = "highest",
) -> tuple[Tensor, list[Tensor]]:
    """Gradients of `so2_linear`, not followed by autograd.

    Args:
        x: Its input, [edges, kept, channels].
        grad_out: Gradient of its coefficients, [edges, kept, out].
        grad_scalars: Gradient of its scalars, [edges, scalars].
        matrices: From `block_matrices`.
        layout: Which row is which.
        precision: Of the products.

    Returns:
        The gradients of `x` and of `matrices`; the bias's is the sum of order 0's over the edges.
    """
    inputs = [rows.flatten(1) for rows in x.split(layout.block_sizes, dim=1)]
    grads = [rows.flatten(1) for rows in grad_out.split(layout.block_sizes, dim=1)]
    grads[0] = torch.cat((grad_scalars, grads[0]), dim=1)
    grad_x = torch.cat([product(grad, matrix, precision) for grad, matrix in zip(grads, matrices, strict=True)], dim=1)
    grad_matrices = [product(grad.T, rows, precision) for grad, rows in zip(grads, inputs, strict=True)]
    return grad_x.view_as(x), grad_matrices


def complex_as_real(weight: Tensor) -> Tensor:
    """[W_r; W_i] -> [[W_r, -W_i], [W_i, W_r]]."""
    real, imaginary = weight.chunk(2, dim=0)
    return torch.cat((torch.cat((real, -imaginary), dim=1), torch.cat((imaginary, real), dim=1)), dim=0)


def real_as_complex(matrix: Tensor) -> Tensor:
    """The transpose of `complex_as_real`: gradients of its result -> gradients of its argument."""
    top, bottom = matrix.chunk(2, dim=0)
    (a, b), (c, d) = top.chunk(2, dim=1), bottom.chunk(2, dim=1)
    return torch.cat((a + d, c - b), dim=0)
