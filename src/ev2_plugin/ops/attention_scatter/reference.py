"""Softmax over consecutive edges."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ev2_plugin.graph.edge_graph import EdgeGraph


def softmax_by_receiver(logits: Float[Tensor, "edges heads"], graph: EdgeGraph) -> Float[Tensor, "edges heads"]:
    """Weights that sum to 1 over the edges of each receiver, for each head.

    Args:
        logits: Attention logits.
        graph: Edges; a receiver without edges takes no part.

    Returns:
        Positive weights.
    """
    pointers = graph.row_pointers
    largest = torch.segment_reduce(logits.detach(), "max", offsets=pointers, axis=0, unsafe=True)
    weights = (logits - largest.index_select(0, graph.receivers)).exp()
    total = torch.segment_reduce(weights, "sum", offsets=pointers, axis=0, unsafe=True, initial=0.0)
    return weights / total.index_select(0, graph.receivers)
