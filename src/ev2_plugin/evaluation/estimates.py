"""Averages over structures, with standard errors that know which structures belong together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True)
class Tally:
    """A quantity added up within each structure, so that averages over any choice of structures follow.

    Attributes:
        sums: What its members add up to, [structures].
        counts: How many they are: 1 for an energy, three per free atom for force components, [structures].
    """

    sums: Float[np.ndarray, " structures"]
    counts: Int[np.ndarray, " structures"]

    @classmethod
    def of_structures(cls, values: np.ndarray) -> Tally:
        """One value per structure."""
        return cls(np.asarray(values, dtype=float), np.ones(len(values), dtype=np.int64))

    @classmethod
    def of_atoms(
        cls,
        values: Float[np.ndarray, " atoms"],
        structure: Int[np.ndarray, " atoms"],
        num_structures: int,
        *,
        members: int = 1,
    ) -> Tally:
        """One value per atom.

        Args:
            values: Sums over the members of each atom.
            structure: Number of the structure of each atom.
            num_structures: How many structures there are, those without atoms here included.
            members: Members that each atom stands for: 3 for the components of a vector.
        """
        return cls(
            np.bincount(structure, weights=values, minlength=num_structures).astype(
                float
            ),  # integers if there are none
            members * np.bincount(structure, minlength=num_structures),
        )


@dataclass(frozen=True)
class Estimate:
    """An average and how far chance may have moved it.

    Attributes:
        value: The mean over all members.
        standard_error: Of that mean; None where there is only one system.
        count: Members: structures, atoms or force components.
        systems: Systems they are of.
    """

    value: float
    standard_error: float | None
    count: int
    systems: int


def estimate(
    tally: Tally, systems: Int[np.ndarray, " structures"], chosen: Bool[np.ndarray, " structures"] | None = None
) -> Estimate | None:
    """Average over structures.

    Args:
        tally: What to average.
        systems: Number of the system of each structure, from 0. Frames of one trajectory err alike, so systems and not
            structures are what counts as independent.
        chosen: Structures to average over; all if None.

    Returns:
        The mean of all members, every one with the same weight, and its standard error: that of a ratio of two sums
        over systems, to first order in their spread. With one structure per system and one member per structure it is
        the standard deviation over the square root of the number. None if there are no members.
    """
    sums, counts = tally.sums, tally.counts
    if chosen is not None:
        sums, counts, systems = sums[chosen], counts[chosen], systems[chosen]
    total = int(counts.sum())
    if total == 0:
        return None
    value = float(sums.sum()) / total
    system_counts = np.bincount(systems, weights=counts)
    present = system_counts > 0
    number = int(present.sum())
    if number == 1:
        return Estimate(value, None, total, number)
    deviations = (np.bincount(systems, weights=sums) - value * system_counts)[present]
    standard_error = float(np.sqrt(number / (number - 1) * np.square(deviations).sum()) / total)
    return Estimate(value, standard_error, total, number)
