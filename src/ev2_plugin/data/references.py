"""Least-squares element references: how much of an energy is the sum of one number per atom.

The fit streams. Rows `[atoms of each element | 1 | energy]` are folded into the triangular factor of their QR
decomposition, which keeps every inner product of the columns: means, spreads and least-squares solutions of all rows
follow from its 121 rows, whatever their number, and factors of several files merge like rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt

import numpy as np
from ase.data import chemical_symbols

NUM_ELEMENTS = 118
_ONE, _ENERGY = NUM_ELEMENTS + 1, NUM_ELEMENTS + 2
_WIDTH = NUM_ELEMENTS + 3
_BUFFER = 256


@dataclass(frozen=True)
class EnergySpread:
    """Mean and standard deviation of energies.

    Attributes:
        mean: Mean [eV].
        std: Standard deviation [eV]; it divides by the number less one.
    """

    mean: float
    std: float


@dataclass(frozen=True)
class ElementReferences:
    """Energies of the elements that reproduce the labels best.

    Attributes:
        by_number: Energy [eV per atom] by atomic number, only of elements that the labels contain.
        rank: Independent compositions; below the number of elements, the solution of least norm was taken.
        residual: What the references leave of the labels.
        explained: Share of the labels' variance that the references explain (R²); None if the labels do not vary.
    """

    by_number: dict[int, float]
    rank: int
    residual: EnergySpread
    explained: float | None

    @property
    def by_symbol(self) -> dict[str, float]:
        """Energy [eV per atom] by chemical symbol, as a configuration lists them."""
        return {chemical_symbols[number]: energy for number, energy in self.by_number.items()}

    @property
    def is_determined(self) -> bool:
        """Whether the compositions tell all elements apart."""
        return self.rank == len(self.by_number)


@dataclass
class CompositionFit:
    """Compositions and energies seen so far.

    Attributes:
        factor: Triangular factor of all rows, [at most 121, 121].
    """

    factor: np.ndarray = field(default_factory=lambda: np.zeros((0, _WIDTH)))
    _rows: list[np.ndarray] = field(default_factory=list, repr=False)

    def add(self, atomic_numbers: np.ndarray, energy: float) -> None:
        """Take in one structure.

        Args:
            atomic_numbers: Atomic numbers, shape [atoms].
            energy: Its energy [eV].

        Raises:
            ValueError: If an atomic number is no element's.
        """
        counts = np.bincount(atomic_numbers, minlength=_ONE)
        if len(counts) > _ONE or counts[0]:
            wrong = sorted(set(np.asarray(atomic_numbers)[(atomic_numbers < 1) | (atomic_numbers > NUM_ELEMENTS)]))
            raise ValueError(f"atomic numbers {wrong} are no elements (1 to {NUM_ELEMENTS})")
        self._rows.append(np.array([*counts, 1.0, energy]))
        if len(self._rows) == _BUFFER:
            self.fold()

    def merge(self, factor: np.ndarray) -> None:
        """Take in the factor of other structures."""
        self._rows.extend(factor)
        self.fold()

    def fold(self) -> np.ndarray:
        """Fold the rows that wait into the factor, and return it."""
        if self._rows:
            self.factor = np.asarray(np.linalg.qr(np.vstack([self.factor, *self._rows]), mode="r"))
            self._rows.clear()
        return self.factor

    @property
    def num_structures(self) -> int:
        """Number of structures."""
        return round(float(np.sum(self.fold()[:, _ONE] ** 2)))

    @property
    def elements(self) -> list[int]:
        """Atomic numbers that occur."""
        return np.flatnonzero(np.abs(self.fold()[:, :_ONE]).max(axis=0, initial=0.0)).tolist()

    def spread(self) -> EnergySpread:
        """Mean and standard deviation of the energies as they are."""
        return self._spread(np.eye(_WIDTH)[_ENERGY])

    def solve(self) -> ElementReferences:
        """Fit one energy per element.

        Raises:
            ValueError: If there are fewer than two structures.
        """
        elements = self.elements
        factor = self.fold()
        solution, _, rank, _ = np.linalg.lstsq(factor[:, elements], factor[:, _ENERGY], rcond=None)
        residual = np.eye(_WIDTH)[_ENERGY]
        residual[elements] = -solution
        total, left = self.spread(), self._spread(residual)
        return ElementReferences(
            by_number=dict(zip(elements, solution.tolist(), strict=True)),
            rank=int(rank),
            residual=left,
            explained=1.0 - (left.std / total.std) ** 2 if total.std > 0 else None,
        )

    def subtract(self, references: dict[int, float]) -> EnergySpread:
        """Mean and standard deviation of what given references [eV per atom] leave of the energies.

        Raises:
            ValueError: If an element has no reference, or there are fewer than two structures.
        """
        missing = [chemical_symbols[number] for number in self.elements if number not in references]
        if missing:
            raise ValueError(f"no element reference for {', '.join(missing)}")
        residual = np.eye(_WIDTH)[_ENERGY]
        for number in self.elements:
            residual[number] = -references[number]
        return self._spread(residual)

    def _spread(self, combination: np.ndarray) -> EnergySpread:
        """Mean and standard deviation of a linear combination of the columns."""
        factor, count = self.fold(), self.num_structures
        if count < 2:
            raise ValueError(f"statistics need at least two structures, not {count}")
        mean = float(factor[:, _ONE] @ (factor @ combination)) / count
        combination = combination.copy()
        combination[_ONE] -= mean
        std = float(np.linalg.norm(factor @ combination)) / sqrt(count - 1)
        return EnergySpread(mean, std)
