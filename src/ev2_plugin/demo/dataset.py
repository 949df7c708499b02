"""The demo's dataset on disk, in the Open Catalyst layout.

Folder layout::

    s2ef/{train,val,test}/data.0000.lmdb, metadata.npz    frames with energy and forces
    is2re/{train,val,test}/data.lmdb, metadata.npz        initial structures with relaxed positions and energies

Whole systems go to one split, so test frames show slabs and placements that training never saw. Energies are
adsorption energies (`ev2_plugin.demo.emt`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from torch_geometric.data import Data

from ev2_plugin.data.lmdb import write_lmdb
from ev2_plugin.data.metadata import compute_metadata, write_metadata
from ev2_plugin.data.structures import structure_to_data
from ev2_plugin.demo.emt import Labelled, Relaxation, label_system
from ev2_plugin.demo.systems import AdsorbateSystem, draw_systems

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class DatasetSize:
    """How much to build.

    Attributes:
        train: Systems to train on.
        val: Systems to validate on.
        test: Systems to test and relax.
        frames: Frames of each system.
    """

    train: int = 186
    val: int = 12
    test: int = 18
    frames: int = 6

    def split_of(self, sid: int) -> str:
        """Name the split of a system by its number."""
        return "train" if sid < self.train else "val" if sid < self.train + self.val else "test"

    @property
    def systems(self) -> int:
        """Number of systems in all splits."""
        return self.train + self.val + self.test


@dataclass(frozen=True)
class DatasetFolder:
    """Where the files of a dataset lie.

    Attributes:
        root: The folder.
    """

    root: Path

    def s2ef(self, split: str) -> Path:
        """Give the LMDB of a split's frames."""
        return self.root / "s2ef" / split / "data.0000.lmdb"

    def is2re(self, split: str) -> Path:
        """Give the LMDB of a split's initial structures."""
        return self.root / "is2re" / split / "data.lmdb"


def build_dataset(
    root: Path,
    size: DatasetSize,
    *,
    seed: int,
    cutoff: float,
    max_neighbors: int,
    workers: int = 1,
    on_system: Callable[[AdsorbateSystem], None] = lambda system: None,
) -> DatasetFolder:
    """Label systems and write all LMDBs with their metadata.

    Args:
        root: Folder to fill.
        size: Numbers of systems and frames.
        seed: Names the dataset: equal seeds give equal contents, whatever the number of workers.
        cutoff: Largest length of an edge [Å], for the metadata.
        max_neighbors: Most edges that one atom receives, for the metadata.
        workers: Processes that label systems; 1 does it here.
        on_system: Called after each system.

    Returns:
        The folder.

    Raises:
        FileExistsError: If one of the LMDBs exists.
        ValueError: If a split is to have no systems, or a relaxation does not converge.
    """
    for split in SPLITS:
        if getattr(size, split) < 1:
            raise ValueError(f"the {split} split needs at least one system, not {getattr(size, split)}")
    folder = DatasetFolder(root)
    for path in (path for split in SPLITS for path in (folder.s2ef(split), folder.is2re(split))):
        if path.exists():
            raise FileExistsError(f"{path} exists: remove it or choose another folder")
    systems = draw_systems(size.systems, np.random.default_rng(seed))
    frames: dict[str, list[Data]] = {split: [] for split in SPLITS}
    relaxations: dict[str, list[Data]] = {split: [] for split in SPLITS}
    for relaxation, samples in _label_all(systems, size.frames, seed, workers):
        split = size.split_of(relaxation.system.sid)
        frames[split].extend(frame_data(relaxation.system.sid, samples))
        relaxations[split].append(relaxation_data(relaxation))
        on_system(relaxation.system)
    for split in SPLITS:
        for path, structures in (
            (folder.s2ef(split), frames[split]),
            (folder.is2re(split), relaxations[split]),
        ):
            write_lmdb(path, structures)
            write_metadata(path.parent, compute_metadata(structures, cutoff, max_neighbors))
    return folder


def frame_data(sid: int, frames: Iterable[Labelled]) -> list[Data]:
    """Turn the frames of one system into data objects for energies and forces.

    Args:
        sid: Number of the system.
        frames: Its labelled frames, numbered in this order.

    Returns:
        Data objects with `y`, `force`, `sid` and `fid`.
    """
    return [
        structure_to_data(frame.atoms, sid=sid, fid=fid, energy=frame.energy, forces=frame.forces)
        for fid, frame in enumerate(frames)
    ]


def relaxation_data(relaxation: Relaxation) -> Data:
    """Turn a relaxation into one data object for initial structures and relaxed energies.

    Args:
        relaxation: From placement to minimum.

    Returns:
        The placed structure with `y_init` and `y_relaxed` [eV] and `pos_relaxed` [Å].
    """
    start, end = relaxation.path[0], relaxation.path[-1]
    data = structure_to_data(start.atoms, sid=relaxation.system.sid)
    data.y_init = start.energy
    data.y_relaxed = end.energy
    data.pos_relaxed = structure_to_data(end.atoms, sid=relaxation.system.sid).pos
    return data


def _label_all(
    systems: list[AdsorbateSystem], frames: int, seed: int, workers: int
) -> Iterator[tuple[Relaxation, list[Labelled]]]:
    arguments = (systems, repeat(frames), repeat(seed))
    if workers == 1:
        yield from map(label_system, *arguments)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(label_system, *arguments)
