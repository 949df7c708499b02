"""What an inspection of a dataset counts, and what it finds fault with."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

import numpy as np

from ev2_plugin.data.energy_kind import EnergyKind
from ev2_plugin.data.references import CompositionFit


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        fatal: Training would fail, or learn nothing, for it.
        text: A sentence.
    """

    fatal: bool
    text: str


@dataclass(frozen=True)
class Expectation:
    """What the dataset is to be trained with.

    Attributes:
        cutoff: Largest length of an edge [Å].
        max_neighbors: Most edges that one atom receives.
        normalizer: Mean and standard deviation of the energies [eV], if they are to fit one.
        references: Element references [eV per atom] by atomic number, subtracted before the normaliser.
        max_num_elements: Atomic numbers the model knows lie below it.
    """

    cutoff: float = 12.0
    max_neighbors: int = 20
    normalizer: tuple[float, float] | None = None
    references: dict[int, float] | None = None
    max_num_elements: int = 119


@dataclass
class Range:
    """Smallest, largest, mean and root mean square of numbers.

    Attributes:
        count: How many.
        smallest: The smallest.
        largest: The largest.
        total: Their sum.
        squares: The sum of their squares.
    """

    count: int = 0
    smallest: float = inf
    largest: float = -inf
    total: float = 0.0
    squares: float = 0.0

    def add(self, values: np.ndarray) -> None:
        """Take in numbers."""
        if values.size:
            self.count += values.size
            self.smallest = min(self.smallest, float(values.min()))
            self.largest = max(self.largest, float(values.max()))
            self.total += float(values.sum())
            self.squares += float((values**2).sum())

    @property
    def mean(self) -> float:
        """The mean."""
        return self.total / self.count

    @property
    def rms(self) -> float:
        """The root mean square."""
        return float(np.sqrt(self.squares / self.count))


@dataclass
class Inspection:
    """All that is found in one pass over a dataset.

    Attributes:
        files: Its files.
        structures: Number of structures.
        keys: Structures that have each key.
        elements: Structures that have each element, by atomic number.
        periodicity: Structures by their three flags.
        atoms: Atoms per structure.
        edges: Edges per structure, of up to 1000 structures.
        degrees: Edges per atom of these.
        labels: Every number of a whole structure, by key.
        free_forces: Components of the forces on free atoms [eV/Å].
        all_forces: Components of all forces [eV/Å].
        atom_kinds: Atoms that are free and fixed, and with each tag.
        energy_key: The key of the energies, if there are any.
        energies: Compositions and energies.
        per_atom: Sizes of the energies per atom [eV].
        kind: What the energies look like.
        findings: What is not as it should be.
    """

    files: list[Path]
    structures: int = 0
    keys: Counter[str] = field(default_factory=Counter)
    elements: Counter[int] = field(default_factory=Counter)
    periodicity: Counter[tuple[bool, ...]] = field(default_factory=Counter)
    atoms: Range = field(default_factory=Range)
    edges: Range = field(default_factory=Range)
    degrees: Range = field(default_factory=Range)
    labels: dict[str, Range] = field(default_factory=dict)
    free_forces: Range = field(default_factory=Range)
    all_forces: Range = field(default_factory=Range)
    atom_kinds: Counter[str] = field(default_factory=Counter)
    energy_key: str | None = None
    energies: CompositionFit = field(default_factory=CompositionFit)
    per_atom: Range = field(default_factory=Range)
    kind: EnergyKind | None = None
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_fit(self) -> bool:
        """Whether nothing was found that would break training."""
        return not any(finding.fatal for finding in self.findings)
