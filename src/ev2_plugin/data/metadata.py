"""The `metadata.npz` beside an LMDB: atoms and edges of each structure, for balancing batches by size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from torch_geometric.data import Data

from ev2_plugin.data.structures import periodicity
from ev2_plugin.storage.atomic import written_atomically
from ev2_plugin.storage.plain_files import read_arrays

FILE_NAME = "metadata.npz"


@dataclass(frozen=True)
class DatasetMetadata:
    """Sizes of the structures of one dataset, in its order.

    Attributes:
        natoms: Number of atoms, shape [structures].
        neighbors: Number of directed edges, shape [structures].
    """

    natoms: np.ndarray
    neighbors: np.ndarray

    @property
    def mean_degree(self) -> float:
        """Mean number of edges per atom, the model's `avg_degree`."""
        return float(self.neighbors.sum() / self.natoms.sum())


def count_edges(data: Data, cutoff: float, max_neighbors: int) -> int:
    """Count the edges of a structure's radius graph.

    Args:
        data: One structure.
        cutoff: Largest length of an edge [Å].
        max_neighbors: Most edges that one atom receives; the shortest are kept.

    Returns:
        The number of directed edges, periodic images included.
    """
    atoms = Atoms(
        positions=data.pos.numpy().astype(float),
        cell=data.cell.numpy().reshape(3, 3).astype(float),
        pbc=periodicity(data),
    )
    # Most often half the cutoff holds enough neighbours already, at an eighth of the pairs.
    for radius in (cutoff / 2, cutoff):
        degrees = np.bincount(neighbor_list("i", atoms, radius), minlength=len(atoms))
        if degrees.min() >= max_neighbors:
            break
    return int(np.minimum(degrees, max_neighbors).sum())


def compute_metadata(structures: Iterable[Data], cutoff: float, max_neighbors: int) -> DatasetMetadata:
    """Measure every structure of a dataset.

    Args:
        structures: Data objects, in the order of the dataset.
        cutoff: Largest length of an edge [Å].
        max_neighbors: Most edges that one atom receives.

    Returns:
        The sizes.

    Raises:
        ValueError: If there are no structures.
    """
    sizes = [(data.natoms, count_edges(data, cutoff, max_neighbors)) for data in structures]
    if not sizes:
        raise ValueError("no structures to measure")
    natoms, neighbors = np.array(sizes, dtype=np.int64).T
    return DatasetMetadata(natoms=natoms, neighbors=neighbors)


def write_metadata(folder: Path, metadata: DatasetMetadata) -> Path:
    """Write `metadata.npz` into the folder of the LMDB; it appears only when it is complete.

    Args:
        folder: Where the LMDB lies.
        metadata: Sizes to write.

    Returns:
        The file.
    """
    path = folder / FILE_NAME
    with written_atomically(path) as file:
        np.savez_compressed(file, natoms=metadata.natoms, neighbors=metadata.neighbors)
    return path


def read_metadata(folder: Path) -> DatasetMetadata:
    """Read the `metadata.npz` of a folder.

    Args:
        folder: Where the LMDB lies.

    Returns:
        The sizes.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it lacks one of its two arrays.
    """
    arrays = read_arrays(folder / FILE_NAME)
    missing = {"natoms", "neighbors"} - set(arrays)
    if missing:
        raise ValueError(f"{folder / FILE_NAME} lacks {', '.join(sorted(missing))}")
    return DatasetMetadata(natoms=arrays["natoms"], neighbors=arrays["neighbors"])
