"""Structures on their way, with all that is known of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ev2_plugin.potential.structures import Structures, join
from ev2_plugin.relax.optimizer import Memory, join_memories


@dataclass(frozen=True)
class Relaxed:
    """How the relaxation of one structure ended.

    Attributes:
        id: Its name.
        index: Its place in the source.
        energy: Of the last positions [eV].
        initial_energy: Of the first [eV].
        fmax: Largest force on a free atom at the last positions [eV/Å].
        steps: Steps taken.
        converged: Whether `fmax` is below the limit.
        positions: Å, [atoms, 3].
    """

    id: str
    index: int
    energy: float
    initial_energy: float
    fmax: float
    steps: int
    converged: bool
    positions: np.ndarray


@dataclass(frozen=True)
class Member:
    """A structure of the batch.

    Attributes:
        index: Its place in the source.
        edges: What it adds to the batch's size.
        steps: Steps it has taken.
        initial_energy: Its first energy [eV]; None before its first evaluation.
    """

    index: int
    edges: int
    steps: int = 0
    initial_energy: float | None = None


@dataclass(frozen=True)
class Group:
    """Structures with all that is known of them; a group can be taken apart and put together."""

    members: tuple[Member, ...]
    structures: Structures
    memory: Memory

    def select(self, which: list[int]) -> Group:
        """Some of them."""
        return Group(
            tuple(self.members[place] for place in which),
            self.structures.select(which),
            self.memory.select(which, self.structures.natoms),
        )

    def joined(self, other: Group | None) -> Group:
        """These and then the others."""
        if other is None:
            return self
        return Group(
            self.members + other.members,
            join([self.structures, other.structures]),
            join_memories([self.memory, other.memory]),
        )
