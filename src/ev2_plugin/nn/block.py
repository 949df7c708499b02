"""One Transformer block."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor, nn

from ev2_plugin.nn.edge_context import EdgeContext
from ev2_plugin.nn.feed_forward import FeedForward
from ev2_plugin.nn.graph_attention import GraphAttention
from ev2_plugin.nn.norm import make_norm
from ev2_plugin.nn.specs import AttentionSpec, EdgeScalarSpec, FeedForwardSpec, NormType, SphereSpec
from ev2_plugin.nn.stochastic_depth import EquivariantDropout, GraphStochasticDepth


@dataclass(frozen=True, kw_only=True)
class BlockSpec:
    """A block's parts.

    Attributes:
        attention: Graph attention.
        feed_forward: Feed-forward network.
        sphere: Degrees, grid, backend.
        edge_scalars: Inputs of the radial functions.
        norm_type: Norm before each branch.
        stochastic_depth: Probability of dropping a branch for a structure.
        dropout: Probability of dropping a channel of a branch's result.
    """

    attention: AttentionSpec
    feed_forward: FeedForwardSpec
    sphere: SphereSpec
    edge_scalars: EdgeScalarSpec
    norm_type: NormType
    stochastic_depth: float
    dropout: float


class TransformerBlock(nn.Module):
    """Pre-norm residual branches: x + drop(attention(norm x)), then x + drop(feed_forward(norm x)).

    Source: paper, figure 1(a).
    """

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        channels, lmax = spec.attention.channels, spec.sphere.layout.lmax
        self.norm_1 = make_norm(spec.norm_type, lmax, channels)
        self.ga = GraphAttention(spec.attention, spec.sphere, spec.edge_scalars, channels)
        self.drop_path = GraphStochasticDepth(spec.stochastic_depth)
        self.proj_drop = EquivariantDropout(spec.dropout)
        self.norm_2 = make_norm(spec.norm_type, lmax, channels)
        self.ffn = FeedForward(spec.feed_forward, spec.sphere, channels)

    def forward(
        self,
        x: Float[Tensor, "nodes coefficients channels"],
        edges: EdgeContext,
        batch: Int[Tensor, " nodes"],
        num_graphs: int,
    ) -> Float[Tensor, "nodes coefficients channels"]:
        """Update the features of own nodes."""
        x = x + self.proj_drop(self.drop_path(self.ga(self.norm_1(x), edges), batch, num_graphs, edges.share))
        return x + self.proj_drop(self.drop_path(self.ffn(self.norm_2(x)), batch, num_graphs, edges.share))
