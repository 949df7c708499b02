"""The structures of a host dataset that are to be relaxed: names, order, labels; read when they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ev2_plugin.integration.relaxation_digests import digest_of_samples
from ev2_plugin.potential.structures import Structures
from ev2_plugin.relax.source import check_ids

_ENERGY_LABELS = ("energy_relaxed", "y_relaxed")  # the host's name, that of the published files


@dataclass
class DatasetSource:
    """Some structures of a host dataset.

    Attributes:
        dataset: What the host opened.
        ids: Names of the structures, in the order in which they are relaxed.
        indices: Their places in the dataset.
        digest: Of all structures of the run, those of other processes included.
    """

    dataset: Any
    ids: Sequence[str]
    indices: Sequence[int]
    digest: str

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Structures:
        """One structure, read now."""
        return structure_of(self.dataset[self.indices[index]], self.ids[index])

    def share(self, rank: int, processes: int) -> DatasetSource:
        """What one of several processes relaxes: every so-manieth structure, none of them twice."""
        return replace(self, ids=self.ids[rank::processes], indices=self.indices[rank::processes])


def read_source(dataset: Any, most: int | None) -> DatasetSource:
    """Read the names of the structures that are to be relaxed, in the order of the dataset.

    Args:
        dataset: What the host opened.
        most: How many, counted from the first; None for all.

    Raises:
        ValueError: If there are none, or a name occurs twice or cannot be that of a file.
    """
    count = len(dataset) if most is None else min(most, len(dataset))
    if not count:
        raise ValueError("there is nothing to relax: the dataset is empty")
    ids: list[str] = []
    digest = digest_of_samples(_named(dataset, count, ids))
    try:
        check_ids(ids)
    except ValueError as error:
        raise ValueError(f"dataset.relax, whose ids are the `sid` of its samples: {error}") from error
    return DatasetSource(dataset, ids, range(count), digest)


def _named(dataset: Any, count: int, ids: list[str]) -> Iterator[Any]:
    for index in range(count):
        sample = dataset[index]
        ids.append(name_of(sample, index))
        yield sample


def name_of(data: Any, index: int) -> str:
    """The name of a sample, its `sid`, as the host's result files have it."""
    if "sid" not in data:
        raise ValueError(f"sample {index} of dataset.relax has no 'sid', by which results are kept")
    sid = data.sid
    return str(sid.item() if isinstance(sid, Tensor) else sid)


def structure_of(data: Any, name: str) -> Structures:
    """A host sample as a structure; positions keep their dtype.

    Args:
        data: Needs `pos`, `atomic_numbers`, `cell` and `fixed`. Without `pbc` it is periodic in all directions,
            without `tags` they are 0.
        name: Its id.

    Raises:
        ValueError: If something is missing.
    """
    missing = [key for key in ("pos", "atomic_numbers", "cell", "fixed") if key not in data]
    if missing:
        raise ValueError(f"structure {name} has no {', '.join(map(repr, missing))}, which its relaxation needs")
    natoms = len(data.pos)
    return Structures(
        ids=(name,),
        atomic_numbers=data.atomic_numbers.long().reshape(-1),
        positions=data.pos,
        cells=data.cell.reshape(1, 3, 3).to(data.pos.dtype),
        pbc=periodicity_of(data).reshape(1, 3),
        natoms=torch.tensor([natoms]),
        fixed=data.fixed.reshape(-1) == 1,
        tags=data.tags.long().reshape(-1) if "tags" in data else torch.zeros(natoms, dtype=torch.long),
    )


def periodicity_of(data: Any) -> Tensor:
    """Periodic directions of a sample, [3]; published files without `pbc` are periodic in all of them."""
    return data.pbc.reshape(3).bool() if "pbc" in data else torch.ones(3, dtype=torch.bool)


@dataclass(frozen=True)
class RelaxedLabels:
    """What a sample says of its relaxed structure.

    Attributes:
        energy: eV, or None.
        positions: Å, [atoms, 3], or None.
    """

    energy: float | None
    positions: Tensor | None


def labels_of(data: Any) -> RelaxedLabels:
    """Relaxed energy (`energy_relaxed` or `y_relaxed`) and positions (`pos_relaxed`) of a sample."""
    energies = [data[key] for key in _ENERGY_LABELS if key in data and data[key] is not None]
    positions = data.pos_relaxed if "pos_relaxed" in data else None
    return RelaxedLabels(float(energies[0]) if energies else None, positions)
