"""Distances -> basis functions -> radial weights."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ev2_plugin.nn.edge_context import EdgeContext
from ev2_plugin.nn.norm import full_precision
from ev2_plugin.nn.specs import EdgeScalarSpec
from ev2_plugin.ops.backend import Operations
from ev2_plugin.so3.tables import constant


class GaussianBasis(nn.Module):
    """Fixed Gaussians evenly spaced on [0, cutoff], twice as wide as their spacing, not normalised.

    Source: official code (scn/smearing.py); paper Table 7 (600 bases at 12 Å).
    """

    def __init__(self, num_basis: int, cutoff: float) -> None:
        super().__init__()
        self.num_basis, self.cutoff = num_basis, cutoff

    def forward(self, distances: Float[Tensor, " edges"]) -> Float[Tensor, "edges basis"]:
        """Expand distances in Å."""
        width = 2 * self.cutoff / (self.num_basis - 1)
        offset = distances.unsqueeze(-1) - _centres(self.num_basis, self.cutoff, distances.dtype, distances.device)
        return (offset.square() * (-0.5 / width**2)).exp()


@constant
def _centres(num_basis: int, cutoff: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    # The Gaussians are so narrow (0.04 Å) that the last bit of a centre is felt: computed as the official code does.
    return torch.linspace(0.0, cutoff, num_basis, dtype=dtype).to(device)


class LearnableGaussianBasis(nn.Module):
    """Gaussians with learnable means and widths of a learnable scale and shift of the distance.

    Source: Equiformer v1 (gaussian_rbf.py), of which the paper's IS2RE and QM9 models take the basis. Its
    normalisation uses 3.14159 for pi; so does this.
    """

    PI = 3.14159

    def __init__(self, num_basis: int, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.mean = nn.Parameter(torch.rand(1, num_basis))
        self.std = nn.Parameter(torch.empty(1, num_basis).uniform_(1 / num_basis, 1))
        self.weight = nn.Parameter(torch.ones(1, 1))
        self.bias = nn.Parameter(torch.zeros(1, 1))

    def forward(self, distances: Float[Tensor, " edges"]) -> Float[Tensor, "edges basis"]:
        """Expand distances in Å."""
        x = self.weight * (distances / self.cutoff).unsqueeze(-1) + self.bias
        std = self.std.abs() + 1e-5
        return (-0.5 * ((x - self.mean) / std).square()).exp() / (math.sqrt(2 * self.PI) * std)


class RadialFunction(nn.Module):
    """Edge scalars -> weights: two hidden layers with layer norm and SiLU, and a linear map.

    Args:
        spec: Inputs and hidden width.
        out: Number of weights per edge.
        ops: Operations to use.
    """

    def __init__(self, spec: EdgeScalarSpec, out: int, ops: Operations) -> None:
        super().__init__()
        width = spec.channels
        inputs = spec.num_inputs + (2 * width if spec.element_tables else 0)
        self.net = nn.Sequential(
            nn.Linear(inputs, width), nn.LayerNorm(width), nn.SiLU(),
            nn.Linear(width, width), nn.LayerNorm(width), nn.SiLU(),
            nn.Linear(width, out),
        )  # fmt: skip
        self.ops = ops

    def forward(
        self, edges: EdgeContext, sender_table: nn.Embedding | None, receiver_table: nn.Embedding | None
    ) -> Float[Tensor, "edges out"]:
        """Weights of every edge."""
        return self.ops.linear(self.hidden(edges, sender_table, receiver_table), self.last.weight, self.last.bias)

    @property
    def last(self) -> nn.Linear:
        """The linear map from the hidden features to the weights."""
        return self.net[-1]

    def hidden(
        self, edges: EdgeContext, sender_table: nn.Embedding | None, receiver_table: nn.Embedding | None
    ) -> Float[Tensor, "edges width"]:
        """What enters the last linear map.

        The first linear map acts on the concatenation (basis, sender element, receiver element). Elements take a
        few dozen values, so their part is computed per table row and looked up per edge.
        """
        first, norm_1, _, second, norm_2, _, _ = self.net
        if sender_table is None or receiver_table is None:
            hidden = self.ops.linear(edges.scalars, first.weight, first.bias)
        else:
            width = sender_table.embedding_dim
            basis, sender, receiver = first.weight.split((edges.scalars.shape[1], width, width), dim=1)
            hidden = self.ops.linear(edges.scalars, basis, first.bias)
            hidden = hidden + F.embedding(edges.sender_elements, F.linear(sender_table.weight, sender))
            hidden = hidden + F.embedding(edges.receiver_elements, F.linear(receiver_table.weight, receiver))
        hidden = self.ops.silu(norm_1(full_precision(hidden)))
        hidden = self.ops.linear(hidden, second.weight, second.bias)
        return self.ops.silu(norm_2(full_precision(hidden)))


def element_table(spec: EdgeScalarSpec) -> nn.Embedding | None:
    """A layer's own table of sender or receiver elements, uniform in +-0.001; None if it has none."""
    if not spec.element_tables:
        return None
    table = nn.Embedding(spec.num_elements, spec.channels)
    nn.init.uniform_(table.weight, -0.001, 0.001)
    return table
