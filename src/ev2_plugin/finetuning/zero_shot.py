"""What a model says about labelled structures before any tuning."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch_geometric.data import Data

from ev2_plugin.data.stored import count_samples, dataset_files, read_samples
from ev2_plugin.data.structures import data_to_structure, s2ef_labels
from ev2_plugin.finetuning.energies import ZeroShot, compare
from ev2_plugin.integration.loading import load_potential
from ev2_plugin.integration.starting_point import StartingPoint
from ev2_plugin.potential.structures import from_atoms
from ev2_plugin.progress import Follow

MOST = 500
"""Structures that are asked about, besides those with an element that was not among them."""
_ATOMS = 400
"""Of a batch: little memory, on any device."""


def ask(start: StartingPoint, dataset: Path, device: str, trust: bool, follow: Follow) -> ZeroShot:
    """Set a model's energies beside the labels of a dataset.

    Args:
        start: The model.
        dataset: A split's folder.
        device: Where to compute.
        trust: As for `load_potential`.
        follow: Told of the progress.

    Raises:
        ValueError: If the model cannot take a structure, or there are fewer than two.
    """
    potential = load_potential(start.source, device, trust=trust)
    # without references: elements that have none are to be seen, too
    potential.outputs = replace(potential.outputs, references={})
    known = start.references or {}
    files = dataset_files(dataset)
    total = count_samples(files)
    chosen = list(_spread(read_samples(files), total))
    rows: list[tuple[np.ndarray, float, float]] = []
    for batch in _batches(chosen):
        structures = [data_to_structure(data) for _, data in batch]
        said = potential(from_atoms(structures, [place for place, _ in batch]))
        for (place, data), atoms, energy in zip(batch, structures, said.energy.tolist(), strict=True):
            referenced = sum(known.get(symbol, 0.0) for symbol in atoms.get_chemical_symbols())
            rows.append((atoms.numbers, s2ef_labels(data, place)[0], energy + referenced))
        follow("zero-shot", len(rows), len(chosen))
    return compare(rows)


def _spread(samples: Iterable[tuple[str, Data]], total: int) -> Iterator[tuple[str, Data]]:
    """Samples at equal distances, and every one with an element that none before it had."""
    every, seen = max(total // MOST, 1), set[int]()
    for number, (place, data) in enumerate(samples):
        elements = set(data.atomic_numbers.tolist())
        if number % every == 0 or not elements <= seen:
            seen |= elements
            yield place, data


def _batches(samples: Iterable[tuple[str, Data]]) -> Iterator[list[tuple[str, Data]]]:
    batch: list[tuple[str, Data]] = []
    atoms = 0
    for sample in samples:
        count = int(sample[1].natoms)
        if batch and atoms + count > _ATOMS:
            yield batch
            batch, atoms = [], 0
        batch.append(sample)
        atoms += count
    if batch:
        yield batch
