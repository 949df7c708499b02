"""One batched matrix product each way; the rows are already order-major, so nothing is permuted."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.ops.receiver_sum import sum_at_receivers
from ev2_plugin.so3.edge_frame import EdgeFrames
from ev2_plugin.so3.layout import CoefficientLayout


def rotated_messages(
    x: Float[Tensor, "nodes coefficients channels"],
    radial: Float[Tensor, "edges radial two_channels"],
    graph: EdgeGraph,
    frames: EdgeFrames,
) -> Float[Tensor, "edges kept two_channels"]:
    """Both ends of every edge in its edge frame, sender's channels before receiver's, times the radial weights.

    Args:
        x: Node features, degree-major.
        radial: One weight per degree, |m| and channel, shared by +m and -m.
        graph: Edges.
        frames: Their frames.

    Returns:
        Order-major edge features; differentiable in `x` and `radial`, not in the frames.

    Source: paper, section 3 and appendix B.3; official code (transformer_block.py).
    """
    sender = torch.bmm(frames.into, x[graph.senders])
    receiver = torch.bmm(frames.into, x[graph.receivers])
    return torch.cat((sender, receiver), dim=-1) * expand_orders(radial, frames.layout)


def expand_orders(radial: Tensor, layout: CoefficientLayout) -> Tensor:
    """Radial weights per order-major row: those of |m| > 0 twice, for +m and for -m."""
    blocks = radial.split(layout.order_sizes, dim=1)
    return torch.cat((blocks[0], *(block for pair in blocks[1:] for block in (pair, pair))), dim=1)


def rotate_back_and_sum(
    values: Float[Tensor, "edges rows channels"],
    attention: Float[Tensor, "edges heads"] | None,
    back: Float[Tensor, "edges coefficients rows"],
    graph: EdgeGraph,
) -> Float[Tensor, "nodes coefficients channels"]:
    """Edge features times attention weights, back in the lab frame, summed over the edges of each receiver.

    Args:
        values: Order-major edge features, or leading rows of them.
        attention: Weights; head h weighs the h-th of `heads` equal parts of the channels. None for 1.
        back: The columns of `EdgeFrames.back` for those rows, and the rows for the coefficients wanted.
        graph: Edges.

    Returns:
        Degree-major node features; zero where a node receives nothing.
    """
    if attention is not None:
        heads = values.unflatten(-1, (attention.shape[1], -1))  # [E, rows, heads, channels / heads]
        values = (heads * attention[:, None, :, None]).flatten(2)
    return sum_at_receivers(torch.bmm(back, values), graph)
