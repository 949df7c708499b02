"""The sum over each receiver's edges."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ev2_plugin.graph.edge_graph import EdgeGraph


def sum_at_receivers(values: Float[Tensor, "edges ..."], graph: EdgeGraph) -> Float[Tensor, "nodes ..."]:
    """Sums of consecutive rows: the same order, hence the same rounding, every time and on every device.

    Args:
        values: One row per edge.
        graph: Edges.

    Returns:
        One row per node; zero where a node receives nothing.
    """
    return torch.segment_reduce(values, "sum", offsets=graph.row_pointers, axis=0, unsafe=True, initial=0.0)
