"""What an inspection of a dataset counts, and what it finds fault with."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

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

    def as_dict(self) -> dict[str, int | float] | None:
        """Everything as JSON has it; None without a number."""
        if not self.count:
            return None
        kept = {"count": self.count, "smallest": self.smallest, "largest": self.largest}
        return {**kept, "mean": self.mean, "rms": self.rms}


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

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON has it."""
        spread = self.energies.spread() if self.energies.num_structures > 1 else None
        return {
            "files": [str(path) for path in self.files],
            "structures": self.structures,
            "keys": dict(sorted(self.keys.items())),
            "elements": {chemical_symbols[number]: count for number, count in sorted(self.elements.items())},
            "periodicity": {"".join("FT"[flag] for flag in flags): count for flags, count in self.periodicity.items()},
            "atoms": self.atoms.as_dict(),
            "edges": self.edges.as_dict(),
            "edges_per_atom": self.degrees.as_dict(),
            "atom_kinds": dict(sorted(self.atom_kinds.items())),
            "labels": {key: values.as_dict() for key, values in sorted(self.labels.items())},
            "energy_key": self.energy_key,
            "energy_mean": None if spread is None else spread.mean,
            "energy_std": None if spread is None else spread.std,
            "energy_kind": None if self.kind is None else self.kind.name,
            "forces": self.all_forces.as_dict(),
            "forces_of_free_atoms": self.free_forces.as_dict(),
            "findings": [asdict(finding) for finding in self.findings],
            "is_fit": self.is_fit,
        }
