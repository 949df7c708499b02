"""Nearest copies on the CPU, by SciPy's k-d tree.

It answers in the number of neighbours, not in a radius: a receiver in thin surroundings costs no more than one in a
dense crystal, and the memory is the neighbours asked for.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Int
from scipy.spatial import cKDTree
from torch import Tensor

from ev2_plugin.graph.candidates import MEMBERS, Candidates, Search
from ev2_plugin.graph.periodic import Copies, PeriodicSystems


def kd_tree_search(systems: PeriodicSystems, copies: Copies, cutoff: float) -> Search:
    """A search for the nearest copies within the cutoff.

    Args:
        systems: Wrapped atoms, on the CPU.
        copies: Their periodic copies.
        cutoff: Largest distance in Å.
    """
    rounding = 16 * torch.finfo(systems.wrapped.dtype).eps  # of a squared distance: relative, the points are given
    reach = cutoff * (1 + rounding)
    # systems lie apart along a fourth axis, out of each other's reach
    apart = np.array([4 * reach]) if len(systems.lattices) > 1 else np.zeros(0)
    system = systems.system.numpy()[:, np.newaxis]

    def places(points: Tensor, atom: np.ndarray | slice) -> np.ndarray:
        return np.concatenate((points.double().numpy(), system[atom] * apart), axis=1)

    tree = cKDTree(places(copies.points, copies.atom.numpy()), balanced_tree=False, compact_nodes=False)

    def search(receivers: Int[Tensor, " receivers"], width: int) -> Iterator[Candidates]:
        width = min(width, tree.n + 1)
        for group in receivers.split(max(1, MEMBERS // width)):
            centres = places(systems.wrapped[group], group.numpy())
            distances, found = tree.query(centres, k=width, distance_upper_bound=reach, workers=torch.get_num_threads())
            complete = (distances[:, -1] * (1 - rounding)) ** 2  # infinite where fewer than `width` were found
            yield Candidates(
                group,
                torch.from_numpy(np.sort(found, axis=1)),
                torch.from_numpy(complete).to(systems.wrapped.dtype),
            )

    return search
