"""Which atoms touch: two atoms do if their spheres overlap, in any periodic image.

The sphere of an atom has its covalent radius (ASE's natural cutoff) times a multiplier, plus 0.3 Å. The 0.3 Å are the
skin of ASE's `NeighborList`, with which the connectivities of OC20 and AdsorbML were made: it widens every cutoff,
and multipliers do not act on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from ase.cell import Cell
from ase.data import covalent_radii
from ase.geometry import minkowski_reduce

SKIN = 0.3
"""Å added to the radius of every atom."""
LARGEST_MULTIPLIER = 1.5
"""Distances are exact as far as spheres of this multiplier reach."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of atoms of a structure whose distances are of interest.

    Attributes:
        first: Index of one atom of each pair, [pairs].
        second: Index of the other, [pairs].
        radii: Sum of their covalent radii in Å, [pairs].
    """

    first: np.ndarray
    second: np.ndarray
    radii: np.ndarray

    def touching(self, distances: np.ndarray, multiplier: float) -> np.ndarray:
        """Tell which pairs touch.

        Args:
            distances: Å, [..., pairs].
            multiplier: Of the covalent radii, at most 1.5.

        Returns:
            [..., pairs] of bool.
        """
        return distances < multiplier * self.radii + 2 * SKIN

    def chosen(self, which: np.ndarray) -> Pairs:
        """Some of the pairs, by their indices."""
        return Pairs(self.first[which], self.second[which], self.radii[which])

    def among(self, chosen: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Tell which pairs have one atom here and the other there.

        Args:
            chosen: Atoms here, [atoms] of bool.
            others: Atoms there, [atoms] of bool.

        Returns:
            [pairs] of bool.
        """
        forth = chosen[self.first] & others[self.second]
        return forth | (others[self.first] & chosen[self.second])


def all_pairs(numbers: np.ndarray) -> Pairs:
    """Every pair of different atoms, once.

    Args:
        numbers: Atomic numbers, [atoms].
    """
    first, second = np.triu_indices(len(numbers), k=1)
    radii = covalent_radii[numbers]
    return Pairs(first, second, radii[first] + radii[second])


@dataclass(frozen=True)
class Lattice:
    """Cell and periodicity of structures.

    Attributes:
        cell: Lattice vectors as rows in Å, [3, 3]; those of directions that are not periodic may be zero.
        pbc: Periodic directions, [3].
    """

    cell: np.ndarray
    pbc: np.ndarray

    @cached_property
    def _reduced(self) -> np.ndarray:
        """The shortest vectors that span the same lattice, with which fewest images are near, [3, 3]."""
        return np.array(minkowski_reduce(Cell(self.cell).complete(), self.pbc)[0])

    def folded(self, differences: np.ndarray) -> np.ndarray:
        """Differences of positions moved by lattice vectors such that they lie about the origin.

        Args:
            differences: Å, [..., 3].

        Returns:
            Å, [..., 3]; fractional coordinates of the reduced cell are at most 1/2 in periodic directions.
        """
        turns = np.where(self.pbc, np.round(differences @ np.linalg.inv(self._reduced)), 0)
        return differences - turns @ self._reduced

    def _translations(self, reach: float) -> np.ndarray:
        """Translations that may bring a difference of two positions below `reach` once it is folded into the cell.

        A folded difference has fractional coordinates of at most 1/2; a translation by n moves it at least
        (|n| - 1/2) times the height of the cell away from the plane of the other two vectors.
        """
        heights = 1 / np.linalg.norm(np.linalg.inv(self._reduced), axis=0)
        counts = np.where(self.pbc, np.floor(reach / heights + 0.5), 0).astype(int)
        steps = list(product(*(range(-count, count + 1) for count in counts)))
        return np.array(steps) @ self._reduced

    def shortest_distances(self, positions: np.ndarray, pairs: Pairs) -> np.ndarray:
        """Distance of each pair between the nearest of its periodic images.

        Args:
            positions: Å, [structures, atoms, 3].
            pairs: Pairs of atoms.

        Returns:
            Å, [structures, pairs]; exact where spheres of `LARGEST_MULTIPLIER` overlap, otherwise an upper bound which
            says that they do not.
        """
        if not len(pairs.first):
            return np.zeros((len(positions), 0))
        differences = self.folded(positions[:, pairs.second] - positions[:, pairs.first])
        translations = self._translations(LARGEST_MULTIPLIER * float(pairs.radii.max()) + 2 * SKIN)
        squares = np.einsum("spx,spx->sp", differences, differences)
        nearest = np.zeros_like(squares)
        for translation in translations:
            gain = differences @ (2 * translation) + translation @ translation
            np.minimum(nearest, gain, out=nearest)
        return np.sqrt(np.maximum(squares + nearest, 0))
