"""A look at some structures of a dataset: sizes, elements, whether their labels are numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols

from ev2_plugin.graph.neighbors import COINCIDENT, NeighborRule, radius_graph
from ev2_plugin.graph.structure_error import StructureError

SAMPLED = 200


@dataclass(frozen=True)
class Survey:
    """What a sample of a split shows.

    Attributes:
        split: Its name.
        structures: How many it has.
        natoms: Atoms of each sampled structure.
        samples: The sampled data objects.
        has_metadata: Whether a metadata.npz tells the size of every structure.
    """

    split: str
    structures: int
    natoms: tuple[int, ...]
    samples: tuple[Any, ...]
    has_metadata: bool

    @property
    def mean_atoms(self) -> float:
        """Mean number of atoms per structure."""
        return float(np.mean(self.natoms))


def survey(split: str, dataset: Any, labels: Sequence[str], max_num_elements: int, use_pbc: bool = True) -> Survey:
    """Read up to `SAMPLED` structures, evenly spread over a dataset.

    Args:
        split: Name of the split, for messages.
        dataset: The host's dataset.
        labels: Keys that must be finite numbers where a structure has them.
        max_num_elements: Rows of the model's element tables.
        use_pbc: Whether the model looks at cells.

    Raises:
        ValueError: Naming the sample whose label is not finite, whose element has no row, or that has atoms in one
            place, positions that are no numbers or a singular cell.
    """
    indices = np.unique(np.linspace(0, len(dataset) - 1, min(SAMPLED, len(dataset))).round().astype(int)).tolist()
    samples = []
    for index in indices:
        sample = dataset[index]  # the host shuffles: the file knows it by another number
        name = f"sample {int(dataset.indices[index])} of dataset.{split}{_identity(sample)}"
        _check_elements(sample, name, max_num_elements)
        _check_geometry(sample, name, use_pbc)
        _check_labels(sample, name, labels)
        samples.append(sample)
    return Survey(
        split=split,
        structures=len(dataset),
        natoms=tuple(int(sample.pos.shape[0]) for sample in samples),
        samples=tuple(samples),
        has_metadata=dataset.metadata_hasattr("natoms"),
    )


def _identity(sample: Any) -> str:
    """The sample's own name."""
    parts = [f"{key} {_plain(sample[key])}" for key in ("sid", "fid") if key in sample]
    return f" ({', '.join(parts)})" if parts else ""


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, torch.Tensor) and value.numel() == 1 else value


def _check_elements(sample: Any, name: str, max_num_elements: int) -> None:
    outside = [int(z) for z in sample.atomic_numbers.unique() if not 1 <= z < max_num_elements]
    if outside and outside[0] < 1:
        raise ValueError(f"{name} has atomic number {outside[0]}: elements are counted from 1; mend the sample")
    if outside:
        element = chemical_symbols[outside[0]] if outside[0] < len(chemical_symbols) else "no element"
        raise ValueError(
            f"{name} has atomic number {outside[0]} ({element}), but the model's element tables end at "
            f"{max_num_elements - 1}: set max_num_elements to {max(outside) + 1} or more (now {max_num_elements})"
        )


def _check_geometry(sample: Any, name: str, use_pbc: bool) -> None:
    """What a neighbour search refuses; up to the distance of coincident atoms, so that it costs little."""
    cell = sample.cell.reshape(1, 3, 3) if use_pbc and "cell" in sample else torch.zeros(1, 3, 3)
    pbc = torch.full((1, 3), use_pbc and "cell" in sample)
    if use_pbc and "pbc" in sample:
        pbc = torch.as_tensor(sample.pbc).reshape(1, 3).bool()
    natoms = torch.tensor([len(sample.pos)])
    try:
        radius_graph(sample.pos, cell.to(sample.pos), pbc, natoms, NeighborRule(COINCIDENT, 1))
    except StructureError as error:
        raise ValueError(f"{error.named(name)}; mend the sample or leave it out") from error


def _check_labels(sample: Any, name: str, labels: Sequence[str]) -> None:
    for label in labels:
        if label not in sample:
            continue
        values = torch.as_tensor(sample[label]).flatten()
        wrong = values[~torch.isfinite(values)]
        if len(wrong.flatten()):
            raise ValueError(
                f"{name}: its label {label!r} is {float(wrong.flatten()[0])}; mend the sample or leave it out"
            )
