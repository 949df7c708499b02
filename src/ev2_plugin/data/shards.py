"""Final files of a dataset: samples out of the chunks, numbered, in the layout that the host reads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import ase.db
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from torch_geometric.data import Data

from ev2_plugin.data.lmdb import read_lmdb, write_lmdb
from ev2_plugin.data.qm9 import TARGETS
from ev2_plugin.data.references import CompositionFit
from ev2_plugin.data.structures import data_to_structure, s2ef_labels
from ev2_plugin.storage.atomic import written_atomically
from ev2_plugin.storage.plain_files import read_arrays
from ev2_plugin.storage.safe_pickle import reading

LAYOUTS = ("oc20", "oc22", "aselmdb")
LABELS = {"s2ef": ("y",), "is2re": ("y_relaxed",), "qm9": TARGETS}
"""The labels of a whole structure by task."""


@dataclass(frozen=True)
class ShardPart:
    """Samples that one chunk gives to a shard.

    Attributes:
        database: The chunk's LMDB.
        indices: Which of its samples, ascending.
        sid_offset: Added to their `sid`.
    """

    database: Path
    indices: tuple[int, ...]
    sid_offset: int


@dataclass(frozen=True)
class Shard:
    """One file to write.

    Attributes:
        path: The file; it appears under this name when it is complete.
        summary: File that says that it is done and holds its `LabelSums`.
        parts: Its samples in order.
        layout: One of `LAYOUTS`.
        task: One of `LABELS`.
    """

    path: Path
    summary: Path
    parts: tuple[ShardPart, ...]
    layout: str
    task: str

    @property
    def num_samples(self) -> int:
        """Number of samples."""
        return sum(len(part.indices) for part in self.parts)


@dataclass
class LabelSums:
    """Sums over the labels of any number of samples, from which normalisers and references follow.

    Attributes:
        fits: Compositions and labels, by label.
        vector_squares: Sum of squared components: forces [eV/Å] on free atoms, or displacements [Å] of free atoms
            with a tag above 0.
        vector_components: Number of these.
    """

    fits: dict[str, CompositionFit] = field(default_factory=dict)
    vector_squares: float = 0.0
    vector_components: int = 0

    @classmethod
    def of(cls, task: str) -> LabelSums:
        """Begin with no samples of a task."""
        return cls({label: CompositionFit() for label in LABELS[task]})

    def add(self, data: Data) -> None:
        """Take in one sample."""
        numbers = data.atomic_numbers.numpy()
        for label, fit in self.fits.items():
            fit.add(numbers, float(data[label]))
        free = data.fixed == 0
        if "force" in data:
            self._add_vectors(data.force[free].double().numpy())
        elif "pos_relaxed" in data:
            self._add_vectors((data.pos_relaxed - data.pos)[free & (data.tags > 0)].double().numpy())

    def merge(self, path: Path) -> None:
        """Take in the sums of a shard."""
        stored = read_arrays(path)
        with reading(path):
            for label, fit in self.fits.items():
                fit.merge(stored[label])
            self.vector_squares += float(stored["vector_squares"])
            self.vector_components += int(stored["vector_components"])

    @property
    def vector_rms(self) -> float | None:
        """Root mean square of the vectors' components; None if there are none or all are 0."""
        if self.vector_components == 0 or self.vector_squares == 0.0:
            return None
        return float(np.sqrt(self.vector_squares / self.vector_components))

    def write(self, path: Path) -> None:
        """Write the sums; the file appears when it is complete."""
        fits = {label: fit.fold() for label, fit in self.fits.items()}
        with written_atomically(path) as file:
            np.savez(file, vector_squares=self.vector_squares, vector_components=self.vector_components, **fits)

    def _add_vectors(self, vectors: np.ndarray) -> None:
        self.vector_squares += float((vectors**2).sum())
        self.vector_components += vectors.size


def write_shard(shard: Shard) -> int:
    """Write one file of the dataset, unless it is done.

    Args:
        shard: What to write.

    Returns:
        Its number of samples.
    """
    if not (shard.summary.exists() and shard.path.exists()):
        shard.path.unlink(missing_ok=True)  # complete, but the process ended before it said so
        sums = LabelSums.of(shard.task)
        samples = _summed(_samples(shard), sums)
        if shard.layout == "aselmdb":
            write_aselmdb(shard.path, samples)
        else:
            write_lmdb(shard.path, samples)
        sums.write(shard.summary)
    return shard.num_samples


def write_aselmdb(path: Path, samples: Iterable[Data]) -> None:
    """Write samples with energies and forces to an ASE LMDB; the file appears under its name when it is complete.

    Args:
        path: File to create.
        samples: Data objects with `y`, `force`, `sid` and `fid`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with ase.db.connect(partial, type="aselmdb", use_lock_file=False) as database:
            for data in samples:
                atoms = data_to_structure(data)
                energy, forces = s2ef_labels(data, f"system {data.sid}")
                atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces.double().numpy())
                database.write(atoms, data={"sid": data.sid, "fid": data.fid})
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
        partial.with_name(f"{partial.name}-lock").unlink(missing_ok=True)


def _summed(samples: Iterator[Data], sums: LabelSums) -> Iterator[Data]:
    for data in samples:
        sums.add(data)
        yield data


def _samples(shard: Shard) -> Iterator[Data]:
    for part in shard.parts:
        for data in read_lmdb(part.database, part.indices):
            data.sid += part.sid_offset
            if shard.layout == "oc22":
                data.oc22 = 1
                data.nads = int((data.tags == 2).any())
            yield data
