"""Equivariant graph attention."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ev2_plugin.nn.activation import SphereActivation, num_gates
from ev2_plugin.nn.edge_context import EdgeContext, EdgePart
from ev2_plugin.nn.linear import EquivariantLinear
from ev2_plugin.nn.radial import RadialFunction, element_table
from ev2_plugin.nn.so2_convolution import MessageConvolution, SO2Convolution
from ev2_plugin.nn.specs import AttentionSpec, EdgeScalarSpec, SphereSpec
from ev2_plugin.nn.zero_gradient import with_zero_gradient
from ev2_plugin.ops.attention_scatter import LogitParameters
from ev2_plugin.ops.edge_convolution import RadialWeights
from ev2_plugin.so3.tables import index_table


class GraphAttention(nn.Module):
    """Messages from sender and receiver, non-linear values and attention weights, summed at the receivers.

    Args:
        spec: Widths and switches.
        sphere: Degrees, grid, backend.
        edge_scalars: Inputs of the radial function.
        out_channels: Channels of the result.

    Source: paper, section 4.1 and figure 1(b).
    """

    def __init__(
        self, spec: AttentionSpec, sphere: SphereSpec, edge_scalars: EdgeScalarSpec, out_channels: int
    ) -> None:
        super().__init__()
        self.spec, self.layout = spec, sphere.layout
        self.ops = ops = sphere.ops
        lmax = sphere.layout.lmax
        self.num_alpha = spec.num_heads * spec.alpha_channels
        gates = num_gates(spec.activation, lmax, spec.hidden_channels)

        self.source_embedding = element_table(edge_scalars)
        self.target_embedding = element_table(edge_scalars)
        shared = spec.share_radial_orders
        radial = RadialFunction(
            edge_scalars, (lmax + 1 if shared else sphere.layout.num_radial) * 2 * spec.channels, ops
        )
        if shared:
            self.rad_func = radial
        self.so2_conv_1 = MessageConvolution(
            spec.channels,
            spec.hidden_channels,
            sphere.layout,
            ops,
            num_scalars=self.num_alpha + gates,
            radial=None if shared else radial,
        )
        self.alpha_norm = nn.LayerNorm(spec.alpha_channels) if spec.renormalize else nn.Identity()
        bound = 1 / math.sqrt(spec.alpha_channels)
        self.alpha_dot = nn.Parameter(torch.empty(spec.num_heads, spec.alpha_channels).uniform_(-bound, bound))
        self.alpha_dropout = nn.Dropout(spec.dropout)
        self.activation = SphereActivation(spec.activation, sphere.edge_grid, ops)
        self.so2_conv_2 = SO2Convolution(spec.hidden_channels, spec.num_heads * spec.value_channels, sphere.layout, ops)
        self.proj = EquivariantLinear(spec.num_heads * spec.value_channels, out_channels, lmax, ops)

    def forward(
        self, x: Float[Tensor, "nodes coefficients channels"], edges: EdgeContext
    ) -> Float[Tensor, "nodes coefficients out"]:
        """Attend to the neighbours.

        Args:
            x: Features of own nodes, degree-major.
            edges: Edges, frames and edge scalars.

        Returns:
            New node features; a node without neighbours gets the projection's bias.
        """
        return self.proj(self._sums(x, edges, slice(None)))

    def vectors(
        self, x: Float[Tensor, "nodes coefficients channels"], edges: EdgeContext
    ) -> Float[Tensor, "nodes 3 out"]:
        """The coefficients of degree 1 of `forward`, in the order (x, y, z), without computing the others."""
        vectors = self._sums(x, edges, slice(1, 4))
        return with_zero_gradient(self.proj.vectors(vectors), self.proj.bias)

    def _sums(self, x: Tensor, edges: EdgeContext, coefficients: slice) -> Tensor:
        """Weighted values summed at the receivers, a part of the edges at a time where none need be kept."""
        x = edges.share.gather(x)
        if not torch.is_grad_enabled():
            return torch.cat([self._sum(x, part, coefficients) for part in edges.parts])
        if self.spec.recompute:
            parts = edges.parts
            return torch.cat([checkpoint(self._sum, x, part, coefficients, use_reentrant=False) for part in parts])
        return self._sum(x, edges.whole, coefficients)

    def _sum(self, x: Tensor, part: EdgePart, coefficients: slice) -> Tensor:
        edges = part.edges
        hidden, scalars = self.so2_conv_1(x, self._radial(edges), edges)
        alpha, gates = scalars.split((self.num_alpha, scalars.shape[1] - self.num_alpha), dim=1)
        per_head = alpha.unflatten(1, (self.spec.num_heads, -1))  # [E, heads, alpha]
        attention = self.alpha_dropout(self.ops.attention_weights(per_head, self._logits, part.sums))  # [E, heads]
        values, _ = self.so2_conv_2(self.activation(hidden, gates))
        return self.ops.rotate_back_and_sum(values, attention, edges.frames.back[:, coefficients], part.sums)

    def _radial(self, edges: EdgeContext) -> RadialWeights:
        """The radial function, its last map spread over the orders if they share weights."""
        function = self.so2_conv_1.rad_func or self.rad_func
        hidden, last = function.hidden(edges, self.source_embedding, self.target_embedding), function.last
        if not self.spec.share_radial_orders:
            return RadialWeights(hidden, last.weight, last.bias)
        degree = index_table(self.layout.radial_degrees, hidden.device)
        weight, bias = (
            p.unflatten(0, (self.layout.lmax + 1, -1))[degree].flatten(0, 1) for p in (last.weight, last.bias)
        )
        return RadialWeights(hidden, weight, bias)

    @property
    def _logits(self) -> LogitParameters:
        if isinstance(self.alpha_norm, nn.LayerNorm):
            return LogitParameters(self.alpha_norm.weight, self.alpha_norm.bias, self.alpha_dot)
        return LogitParameters(None, None, self.alpha_dot)
