"""Test sets of a few structures, and the predictions that fit them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from ev2_plugin.data.lmdb import write_lmdb

OC20 = ("id", "ood_ads", "ood_cat", "ood_both")
OC22 = ("id", "ood")


@dataclass(frozen=True)
class Split:
    """A test set and what a model says of it.

    Attributes:
        lmdb: The test set.
        systems: sid, fid, atoms, fixed atoms of each structure.
        energy: Shape [structures, 1], as the host writes it.
        rows: Per atom of every structure, fixed ones included.
    """

    lmdb: Path
    systems: tuple[tuple[int, int, int, int], ...]
    energy: np.ndarray
    rows: tuple[np.ndarray, ...]

    def predictions(self, task: str) -> dict[str, np.ndarray]:
        """A prediction file's arrays in the order of the test set."""
        names = [f"{sid}_{fid}" if task == "s2ef" else f"{sid}" for sid, fid, _, _ in self.systems]
        if task == "is2re":
            return {"ids": np.array(names), "energy": self.energy}
        skipped = [fixed if task == "s2ef" else 0 for _, _, _, fixed in self.systems]
        kept = [rows[skip:] for rows, skip in zip(self.rows, skipped, strict=True)]
        chunk_idx = np.cumsum([len(one) for one in kept])[:-1]
        if task == "s2ef":
            forces = np.concatenate(kept).astype(np.float32)
            return {"ids": np.array(names), "energy": self.energy, "forces": forces, "chunk_idx": chunk_idx}
        return {"ids": np.array(names), "pos": np.concatenate(kept), "chunk_idx": chunk_idx}


def write_split(path: Path, number: int, frames: bool) -> Split:
    rng = np.random.default_rng(number)
    systems = tuple(
        (100 * number + sid, fid, natoms, fixed)
        for sid, fid, natoms, fixed in ((20, 3, 5, 2), (3, 0, 4, 1), (11, 12, 6, 0), (7, 1, 3, 2))
    )
    structures = []
    for sid, fid, natoms, fixed in systems:
        data = Data(
            pos=torch.from_numpy(rng.normal(size=(natoms, 3))).float(),
            cell=torch.eye(3).view(1, 3, 3) * 9,
            atomic_numbers=torch.full((natoms,), 29),
            natoms=natoms,
            tags=torch.zeros(natoms, dtype=torch.long),
            fixed=torch.tensor([1.0] * fixed + [0.0] * (natoms - fixed)),
            sid=sid,
        )
        if frames:
            data.fid = fid
        structures.append(data)
    write_lmdb(path, structures)
    rows = tuple(rng.normal(size=(natoms, 3)) for _, _, natoms, _ in systems)
    return Split(path, systems, rng.normal(size=(len(systems), 1)).astype(np.float32), rows)


@pytest.fixture(scope="session", params=["s2ef", "is2re", "is2rs"])
def task(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def all_splits(tmp_path_factory: pytest.TempPathFactory) -> Mapping[bool, Mapping[str, Split]]:
    """Test sets of all splits, with and without frames."""
    folder = tmp_path_factory.mktemp("test_sets")
    names = (*OC20, "ood")
    return {
        frames: {
            split: write_split(folder / f"{split}_{frames}" / "data.0000.lmdb", number, frames)
            for number, split in enumerate(names, 1)
        }
        for frames in (True, False)
    }


@pytest.fixture
def splits(all_splits: Mapping[bool, Mapping[str, Split]], task: str) -> Mapping[str, Split]:
    return all_splits[task == "s2ef"]


def write_predictions(
    folder: Path, splits: Mapping[str, Split], names: Sequence[str], task: str
) -> dict[str, list[Path]]:
    """A prediction file for each split."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name in names:
        paths[name] = [folder / f"{name}.npz"]
        np.savez_compressed(paths[name][0], **splits[name].predictions(task))
    return paths
