"""One batched matrix product each way; the rows are already order-major, so nothing is permuted."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.so3.edge_frame import EdgeFrames


def gather_and_rotate(
    x: Float[Tensor, "nodes coefficients channels"], graph: EdgeGraph, frames: EdgeFrames
) -> Float[Tensor, "edges kept two_channels"]:
    """Both ends of every edge in its edge frame, sender's channels before receiver's.

    Args:
        x: Node features, degree-major.
        graph: Edges.
        frames: Their frames.

    Returns:
        Order-major edge features; differentiable in `x`, not in the frames.

    Source: paper, section 3 and appendix B.3; official code (transformer_block.py).
    """
    sender = torch.bmm(frames.into, x.index_select(0, graph.senders))
    receiver = torch.bmm(frames.into, x.index_select(0, graph.receivers))
    return torch.cat((sender, receiver), dim=-1)


def rotate_back_and_sum(
    values: Float[Tensor, "edges rows channels"],
    back: Float[Tensor, "edges coefficients rows"],
    graph: EdgeGraph,
) -> Float[Tensor, "nodes coefficients channels"]:
    """Edge features back in the lab frame, summed over the edges of each receiver.

    Args:
        values: Order-major edge features, or leading rows of them.
        back: The columns of `EdgeFrames.back` for those rows, and the rows for the coefficients wanted.
        graph: Edges.

    Returns:
        Degree-major node features; zero where a node receives nothing.
    """
    lab = torch.bmm(back, values)
    # sums of consecutive rows: the same order, hence the same rounding, every time and on every device
    return torch.segment_reduce(lab, "sum", offsets=graph.row_pointers, axis=0, unsafe=True, initial=0.0)
