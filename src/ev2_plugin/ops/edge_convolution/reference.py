"""The first half of a message, step by step."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.ops.edge_rotation.reference import rotated_messages
from ev2_plugin.ops.so2_linear.reference import SO2Weights, so2_linear
from ev2_plugin.so3.edge_frame import EdgeFrames


@dataclass(frozen=True)
class RadialWeights:
    """The radial function up to its last linear map.

    Attributes:
        hidden: What enters that map, [edges, width].
        weight: The map, [radial * channels, width]: one row per degree, |m| and channel.
        bias: Its bias, [radial * channels].
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor


def convolved_messages(
    x: Float[Tensor, "nodes coefficients channels"],
    radial: RadialWeights,
    weights: SO2Weights,
    graph: EdgeGraph,
    frames: EdgeFrames,
) -> tuple[Float[Tensor, "edges kept out"], Float[Tensor, "edges scalars"]]:
    """Both ends of every edge in its frame, times the radial weights, through an SO(2) linear map.

    Args:
        x: Node features, degree-major.
        radial: The radial function.
        weights: The SO(2) linear map, which reads twice the channels of `x`.
        graph: Edges.
        frames: Their frames.

    Returns:
        Order-major edge features and extra invariant scalars; differentiable in `x`, `radial` and `weights`.

    Source: paper, section 3 and figure 1(b); official code (transformer_block.py).
    """
    per_row = F.linear(radial.hidden, radial.weight, radial.bias).unflatten(1, (frames.layout.num_radial, -1))
    return so2_linear(rotated_messages(x, per_row, graph, frames), weights, frames.layout)
