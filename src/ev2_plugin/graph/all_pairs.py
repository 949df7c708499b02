"""The plain form of the neighbour search: every atom of a system against every image of every other.

Its cost grows with the square of the atoms. The faster forms give the same edges, and tests hold them to it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ev2_plugin.graph.neighbor_limit import TIE_TOLERANCE, NeighborRule, refuse_coincident
from ev2_plugin.graph.periodic import PeriodicSystems, image_offsets, squared_norm


def all_pairs(systems: PeriodicSystems, rule: NeighborRule) -> tuple[Tensor, Tensor, Tensor]:
    """Receivers, senders and images of all edges, in this order ascending.

    Args:
        systems: Wrapped atoms.
        rule: Cutoff and neighbour limit.

    Raises:
        ValueError: If two atoms coincide.
    """
    sizes = torch.bincount(systems.system, minlength=len(systems.lattices)).tolist()
    offsets, first_image = image_offsets(systems), systems.first_image.tolist()
    parts, start = [], 0
    for system, size in enumerate(sizes):
        wrapped = systems.wrapped[start : start + size]
        images = slice(first_image[system], first_image[system + 1])
        shifted = wrapped.unsqueeze(1) + offsets[images]  # [atoms, images, 3]
        squared = squared_norm(shifted - wrapped.view(-1, 1, 1, 3))  # [receivers, senders, images]
        within = squared <= rule.cutoff**2
        receivers, senders, image = within.nonzero(as_tuple=True)
        squared, image = squared[within], image + images.start
        pair = (receivers != senders) | (systems.images[image] != 0).any(dim=-1)
        receivers, senders, image, squared = receivers[pair], senders[pair], image[pair], squared[pair]
        refuse_coincident(squared, receivers + start, senders + start, systems.system)
        kept = _nearest(receivers, squared, size, rule)
        parts.append((receivers[kept] + start, senders[kept] + start, image[kept]))
        start += size
    receivers, senders, image = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return receivers, senders, image


def _nearest(receivers: Tensor, squared: Tensor, num_nodes: int, rule: NeighborRule) -> Tensor:
    """Indices of the edges within the neighbour limit, in their given order."""
    by_distance = torch.argsort(squared, stable=True)
    by_distance = by_distance[torch.argsort(receivers[by_distance], stable=True)]
    nodes = torch.arange(num_nodes + 1, device=receivers.device)
    first = torch.searchsorted(receivers, nodes)
    rank = torch.empty_like(by_distance)
    rank[by_distance] = torch.arange(len(receivers), device=receivers.device) - first[receivers]
    if rule.strict:
        return (rank < rule.max_neighbors).nonzero().squeeze(-1)
    beyond = torch.full((num_nodes,), torch.inf, dtype=squared.dtype, device=squared.device)
    limit = rank == rule.max_neighbors  # the first neighbour that a strict limit would leave out
    beyond[receivers[limit]] = squared[limit]
    return (squared <= beyond[receivers] + TIE_TOLERANCE).nonzero().squeeze(-1)
