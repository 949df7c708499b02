"""Equivariant graph attention."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ev2_plugin.nn.activation import SphereActivation, num_gates, smooth_leaky_relu
from ev2_plugin.nn.linear import EquivariantLinear
from ev2_plugin.nn.radial import EdgeContext, RadialFunction, element_table
from ev2_plugin.nn.so2_convolution import SO2Convolution
from ev2_plugin.nn.specs import AttentionSpec, EdgeScalarSpec, SphereSpec
from ev2_plugin.nn.zero_gradient import with_zero_gradient
from ev2_plugin.ops.backend import operations
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
        self.ops = ops = operations(sphere.backend)
        lmax, pair_channels = sphere.layout.lmax, 2 * spec.channels
        self.num_alpha = spec.num_heads * spec.alpha_channels
        gates = num_gates(spec.activation, lmax, spec.hidden_channels)

        self.source_embedding = element_table(edge_scalars)
        self.target_embedding = element_table(edge_scalars)
        if spec.share_radial_orders:
            self.rad_func = RadialFunction(edge_scalars, (lmax + 1) * pair_channels, ops)
        self.so2_conv_1 = SO2Convolution(
            pair_channels,
            spec.hidden_channels,
            sphere.layout,
            ops,
            num_scalars=self.num_alpha + gates,
            radial=None
            if spec.share_radial_orders
            else RadialFunction(edge_scalars, sphere.layout.num_radial * pair_channels, ops),
        )
        self.alpha_norm = nn.LayerNorm(spec.alpha_channels) if spec.renormalize else nn.Identity()
        bound = 1 / math.sqrt(spec.alpha_channels)
        self.alpha_dot = nn.Parameter(torch.empty(spec.num_heads, spec.alpha_channels).uniform_(-bound, bound))
        self.alpha_dropout = nn.Dropout(spec.dropout)
        self.activation = SphereActivation(spec.activation, sphere.edge_grid, ops)
        self.so2_conv_2 = SO2Convolution(spec.hidden_channels, spec.num_heads * spec.value_channels, sphere.layout, ops)
        self.proj = EquivariantLinear(spec.num_heads * spec.value_channels, out_channels, lmax)

    def forward(
        self, x: Float[Tensor, "nodes coefficients channels"], edges: EdgeContext
    ) -> Float[Tensor, "nodes coefficients out"]:
        """Attend to the neighbours.

        Args:
            x: Node features, degree-major.
            edges: Edges, frames and edge scalars.

        Returns:
            New node features; a node without neighbours gets the projection's bias.
        """
        values = self._weighted_values(x, edges)
        return self.proj(self.ops.rotate_back_and_sum(values, edges.frames.back, edges.graph))

    def vectors(
        self, x: Float[Tensor, "nodes coefficients channels"], edges: EdgeContext
    ) -> Float[Tensor, "nodes 3 out"]:
        """The coefficients of degree 1 of `forward`, in the order (x, y, z), without computing the others."""
        values = self._weighted_values(x, edges)
        vectors = self.ops.rotate_back_and_sum(values, edges.frames.back[:, 1:4], edges.graph)
        return with_zero_gradient(self.proj.vectors(vectors), self.proj.bias)

    def _weighted_values(self, x: Tensor, edges: EdgeContext) -> Tensor:
        messages = self.ops.rotated_messages(x, self._radial_weights(edges), edges.graph, edges.frames)
        hidden, scalars = self.so2_conv_1(messages)
        alpha, gates = scalars.split((self.num_alpha, scalars.shape[1] - self.num_alpha), dim=1)
        values, _ = self.so2_conv_2(self.activation(hidden, gates))
        attention = self.alpha_dropout(self._attention(alpha, edges))  # [E, heads]
        heads = values.unflatten(-1, (self.spec.num_heads, -1))  # [E, kept, heads, values]
        return (heads * attention[:, None, :, None]).flatten(2)

    def _radial_weights(self, edges: EdgeContext) -> Tensor:
        tables = self.source_embedding, self.target_embedding
        if self.so2_conv_1.rad_func is not None:
            weights = self.so2_conv_1.rad_func(edges, *tables)
            return weights.unflatten(1, (self.layout.num_radial, -1))
        per_degree = self.rad_func(edges, *tables).unflatten(1, (self.layout.lmax + 1, -1))
        return per_degree.index_select(1, index_table(self.layout.radial_degrees, per_degree.device))

    def _attention(self, alpha: Tensor, edges: EdgeContext) -> Tensor:
        per_head = alpha.unflatten(1, (self.spec.num_heads, -1))  # [E, heads, alpha]
        activated = smooth_leaky_relu(self.alpha_norm(per_head), self.ops.silu)
        logits = torch.einsum("eha,ha->eh", activated, self.alpha_dot)
        return self.ops.softmax_by_receiver(logits, edges.graph)
