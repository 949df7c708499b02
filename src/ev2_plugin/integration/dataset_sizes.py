"""How large the structures of a run are: from its datasets, or as the user says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch_geometric.data import Batch

from ev2_plugin.integration.check.splits import configured_splits, missing_sources, open_split
from ev2_plugin.integration.config import parse_model_settings
from ev2_plugin.integration.host_classes import only_needed_imports
from ev2_plugin.integration.reading import read_batch

SAMPLED = 32
"""Structures whose edges are counted."""


@dataclass(frozen=True)
class StructureSizes:
    """Atoms and edges.

    Attributes:
        natoms: Atoms of the structures that are known, the largest first.
        edges_per_atom: Mean number of edges per atom.
        most_edges_per_atom: The same of the structure that has most.
        source: Where the numbers are from, in words.

    Raises:
        ValueError: If a number cannot be right.
    """

    natoms: tuple[int, ...]
    edges_per_atom: int | float
    most_edges_per_atom: int | float
    source: str

    def __post_init__(self) -> None:
        if not self.natoms or self.natoms[-1] < 1:
            raise ValueError(f"structures have at least one atom, got {self.natoms[-1:] or 'no structures'}")
        if not self.edges_per_atom > 0:
            raise ValueError(f"the number of edges per atom must be positive, got {self.edges_per_atom}")

    @property
    def mean_atoms(self) -> float:
        """Mean number of atoms."""
        return sum(self.natoms) / len(self.natoms)

    def mean_batch(self, structures: int) -> tuple[float, float]:
        """Atoms and edges of a batch of mean structures."""
        return structures * self.mean_atoms, structures * self.mean_atoms * self.edges_per_atom

    def largest_batch(self, structures: int) -> tuple[float, float]:
        """Atoms and edges of a batch of the largest structures; where fewer are known, the largest stands in."""
        known = self.natoms[:structures]
        atoms = float(sum(known) + (structures - len(known)) * self.natoms[0])
        return atoms, atoms * self.most_edges_per_atom


def given_sizes(atoms: int, edges_per_atom: int | float) -> StructureSizes:
    """Structures that are all alike, as the user says."""
    return StructureSizes((atoms,), edges_per_atom, edges_per_atom, "as given")


def dataset_sizes(config: Mapping[str, Any]) -> StructureSizes:
    """Sizes in the first of a run's datasets that is here.

    Atoms are those of every structure if the dataset has a metadata.npz, otherwise those of a sample; edges are
    counted in a sample, by the model's own neighbour rule.

    Args:
        config: The run's config, as `build_run_config` returns it.

    Raises:
        FileNotFoundError: If none of the datasets is here.
        ValueError: If it cannot be opened, or its structures are refused.
    """
    splits = configured_splits(config)
    present = {split: settings for split, settings in splits.items() if not missing_sources(settings)}
    if not present:
        absent = [f"dataset.{split}.src: {missing_sources(settings)[0]}" for split, settings in splits.items()]
        raise FileNotFoundError(
            f"no dataset is here ({', '.join(absent) or 'the config names none'}): give its path, or --atoms and "
            "--edges-per-atom"
        )
    split, settings = next(iter(present.items()))
    with only_needed_imports(config):
        dataset = open_split(split, settings)
        return _sizes(config, split, settings, dataset)


def _sizes(config: Mapping[str, Any], split: str, settings: Mapping[str, Any], dataset: Any) -> StructureSizes:
    sample = np.unique(np.linspace(0, len(dataset) - 1, min(SAMPLED, len(dataset))).round().astype(int)).tolist()
    counted = [_count(dataset[index], config["model"]) for index in sample]
    natoms = [atoms for atoms, _ in counted]
    if dataset.metadata_hasattr("natoms"):
        natoms = np.asarray(dataset.get_metadata("natoms", list(range(len(dataset))))).tolist()
    known = "all" if len(natoms) == len(dataset) else f"a sample of {len(natoms)}"
    return StructureSizes(
        natoms=tuple(sorted(map(int, natoms), reverse=True)),
        edges_per_atom=sum(edges for _, edges in counted) / sum(atoms for atoms, _ in counted),
        most_edges_per_atom=max(edges / atoms for atoms, edges in counted),
        source=f"dataset.{split} ({Path(str(settings['src']))}): {known} of {len(dataset):,} structures",
    )


def _count(sample: Any, model: Mapping[str, Any]) -> tuple[int, int]:
    network = {key: value for key, value in model.get("backbone", model).items() if key not in ("name", "model")}
    atoms = read_batch(Batch.from_data_list([sample]), *parse_model_settings(network), torch.float32)
    return len(atoms.atomic_numbers), len(atoms.graph.senders)
