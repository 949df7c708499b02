"""Softmax over consecutive edges."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.ops.receiver_sum import sum_at_receivers


def softmax_by_receiver(logits: Float[Tensor, "edges heads"], graph: EdgeGraph) -> Float[Tensor, "edges heads"]:
    """Weights that sum to 1 over the edges of each receiver, for each head.

    Args:
        logits: Attention logits.
        graph: Edges; a receiver without edges takes no part.

    Returns:
        Positive weights.
    """
    largest = torch.segment_reduce(logits.detach(), "max", offsets=graph.row_pointers, axis=0, unsafe=True)
    weights = (logits - largest.index_select(0, graph.receivers)).exp()
    return weights / sum_at_receivers(weights, graph).index_select(0, graph.receivers)
