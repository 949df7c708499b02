"""Invariant features -> attention weights, step by step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.ops.receiver_sum import sum_at_receivers

EPS = 1e-5
"""Of the layer norm."""

NEGATIVE_SLOPE = 0.2
"""Of the smooth leaky ReLU."""


@dataclass(frozen=True)
class LogitParameters:
    """Parameters of the attention logits.

    Attributes:
        norm_weight: Weight of the layer norm, [channels]; None for no norm (without attention re-normalisation).
        norm_bias: Its bias, [channels]; None for no norm.
        dot: The vector that makes a logit of a head's features, [heads, channels].
    """

    norm_weight: Tensor | None
    norm_bias: Tensor | None
    dot: Tensor


def attention_weights(
    features: Float[Tensor, "edges heads channels"], parameters: LogitParameters, graph: EdgeGraph
) -> Float[Tensor, "edges heads"]:
    """Layer norm, smooth leaky ReLU, dot product, softmax over each receiver's edges.

    Args:
        features: Invariant features.
        parameters: Of the logits.
        graph: Edges.

    Returns:
        Weights in at least float32.

    Source: paper, section 4.1 (attention re-normalisation) and equation 1; official code (transformer_block.py),
    whose leaky ReLU is smooth: slope * x + (1 - slope) * silu(x).
    """
    x = features.to(torch.promote_types(features.dtype, torch.float32))
    if parameters.norm_weight is not None:
        x = F.layer_norm(x, x.shape[-1:], parameters.norm_weight, parameters.norm_bias, EPS)
    x = NEGATIVE_SLOPE * x + (1 - NEGATIVE_SLOPE) * F.silu(x)
    return softmax_by_receiver((x * parameters.dot).sum(dim=-1), graph)


def softmax_by_receiver(logits: Float[Tensor, "edges heads"], graph: EdgeGraph) -> Float[Tensor, "edges heads"]:
    """Weights that sum to 1 over the edges of each receiver, for each head.

    Args:
        logits: Attention logits.
        graph: Edges; a receiver without edges takes no part.

    Returns:
        Positive weights.
    """
    largest = torch.segment_reduce(logits.detach(), "max", offsets=graph.row_pointers, axis=0, unsafe=True)
    weights = (logits - largest[graph.receivers]).exp()
    return weights / sum_at_receivers(weights, graph)[graph.receivers]
