"""A linear map of the channels, one per degree."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ev2_plugin.ops.backend import Operations
from ev2_plugin.so3.layout import CoefficientLayout
from ev2_plugin.so3.tables import index_table


class EquivariantLinear(nn.Module):
    """Mixes channels within each degree; a bias on degree 0 only.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        lmax: Largest degree.
        ops: Operations to use.
    """

    def __init__(self, in_channels: int, out_channels: int, lmax: int, ops: Operations) -> None:
        super().__init__()
        self.in_features, self.out_features, self.lmax, self.ops = in_channels, out_channels, lmax, ops
        bound = 1 / math.sqrt(in_channels)
        self.weight = nn.Parameter(torch.empty(lmax + 1, out_channels, in_channels).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Float[Tensor, "nodes coefficients channels"]) -> Float[Tensor, "nodes coefficients out"]:
        """Apply every degree's map to its coefficients."""
        degrees = index_table(CoefficientLayout(self.lmax, 0).degrees, x.device)
        per_coefficient = self.weight[degrees].mT  # [coefficients, channels, out]
        out = self.ops.product(x.transpose(0, 1), per_coefficient).transpose(0, 1)
        return torch.cat((out[:, :1] + self.bias, out[:, 1:]), dim=1)

    def scalars(self, x: Float[Tensor, "nodes channels"]) -> Float[Tensor, "nodes out"]:
        """The map of degree 0 alone."""
        return self.ops.linear(x, self.weight[0], self.bias)

    def vectors(self, x: Float[Tensor, "nodes 3 channels"]) -> Float[Tensor, "nodes 3 out"]:
        """The map of degree 1 alone."""
        return self.ops.linear(x, self.weight[1], None)

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        return f"in_channels={self.in_features}, out_channels={self.out_features}, lmax={self.lmax}"
