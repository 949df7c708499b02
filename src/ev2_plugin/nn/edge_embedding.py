"""The first look at the neighbourhood: edge-degree embedding."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ev2_plugin.nn.edge_context import EdgeContext, EdgePart
from ev2_plugin.nn.radial import RadialFunction, element_table
from ev2_plugin.nn.specs import EdgeScalarSpec
from ev2_plugin.ops.backend import Operations


class EdgeDegreeEmbedding(nn.Module):
    """Radial weights as the m = 0 coefficients of every edge, rotated to the lab frame and summed.

    Args:
        channels: Channels of the node features.
        lmax: Largest degree.
        avg_degree: The sum is divided by this: mean number of neighbours in the training data.
        spec: Inputs of the radial function.
        ops: Operations to use.

    Source: paper, figure 1 and section 3; official code (input_block.py).
    """

    def __init__(self, channels: int, lmax: int, avg_degree: float, spec: EdgeScalarSpec, ops: Operations) -> None:
        super().__init__()
        self.num_degrees, self.avg_degree, self.ops = lmax + 1, avg_degree, ops
        self.source_embedding = element_table(spec)
        self.target_embedding = element_table(spec)
        self.rad_func = RadialFunction(spec, self.num_degrees * channels, ops)

    def forward(self, edges: EdgeContext) -> Float[Tensor, "nodes coefficients channels"]:
        """Embedding of every own node's neighbourhood."""
        parts = edges.parts if not torch.is_grad_enabled() else [edges.whole]
        return torch.cat([self._sum(part) for part in parts]) / self.avg_degree

    def _sum(self, part: EdgePart) -> Tensor:
        weights = self.rad_func(part.edges, self.source_embedding, self.target_embedding)
        values = weights.unflatten(1, (self.num_degrees, -1))
        back = part.edges.frames.back[:, :, : self.num_degrees]
        return self.ops.rotate_back_and_sum(values, None, back, part.sums)
