"""Edges a part at a time, so that what is made of them is small."""

from __future__ import annotations

from collections.abc import Iterator

import torch

CHUNK_BYTES = {"cpu": 2**22, "cuda": 2**29}
"""Edge features per chunk: a core's share of the last-level cache; a GPU wants its units filled instead."""


def edge_chunks(num_edges: int, bytes_per_edge: int, device: torch.device, at_least: int = 1) -> Iterator[slice]:
    """Consecutive edges, few enough that what is made of them fits `CHUNK_BYTES`.

    Args:
        num_edges: Edges.
        bytes_per_edge: What is made of one edge.
        device: Where.
        at_least: Edges per chunk even if they do not fit.
    """
    size = max(CHUNK_BYTES.get(device.type, CHUNK_BYTES["cpu"]) // bytes_per_edge, at_least, 1)
    return (slice(start, start + size) for start in range(0, num_edges, size))
