"""Statistics of the labels, by which the trainers normalise their targets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt

import torch
from torch_geometric.data import Data

from ev2_plugin.data.structures import s2ef_labels


@dataclass(frozen=True)
class TargetStatistics:
    """Mean and spread of the labels of one dataset, as it references them.

    Attributes:
        num_structures: Number of structures.
        energy_mean: Mean energy [eV].
        energy_std: Standard deviation of the energies [eV].
        forces_rms: Root mean square of the force components of the free atoms [eV/Å]; their mean is taken as 0.
    """

    num_structures: int
    energy_mean: float
    energy_std: float
    forces_rms: float

    def normalizers(self) -> dict[str, dict[str, float]]:
        """Give the entry `transforms.normalizer` of a dataset in a trainer's configuration."""
        return {
            "energy": {"mean": self.energy_mean, "rmsd": self.energy_std},
            "forces": {"mean": 0.0, "rmsd": self.forces_rms},
        }


def compute_statistics(structures: Iterable[Data]) -> TargetStatistics:
    """Compute the statistics of labelled structures.

    Args:
        structures: Data objects with `energy` (or `y`), `forces` (or `force`) and `fixed`; at least two.

    Returns:
        The statistics; the standard deviation divides by the number of structures less one.

    Raises:
        ValueError: If there are fewer than two structures, one has no label, no atom is free, or all energies
            or all forces are equal, so that nothing could be divided by their spread.
    """
    energies: list[float] = []
    squares, components = 0.0, 0
    for index, data in enumerate(structures):
        energy, forces = s2ef_labels(data, f"structure {index}")
        energies.append(energy)
        free = forces[data.fixed == 0].double()
        squares += float((free**2).sum())
        components += free.numel()
    if len(energies) < 2:
        raise ValueError(f"statistics need at least two structures, not {len(energies)}")
    if components == 0:
        raise ValueError("statistics of forces need free atoms: every atom is fixed")
    values = torch.tensor(energies, dtype=torch.float64)
    statistics = TargetStatistics(
        num_structures=len(energies),
        energy_mean=float(values.mean()),
        energy_std=float(values.std()),
        forces_rms=sqrt(squares / components),
    )
    if statistics.energy_std == 0.0 or statistics.forces_rms == 0.0:
        raise ValueError(f"the labels do not vary: {statistics}")
    return statistics
