"""What the structures of an evaluation are, by which their errors are broken down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from ase.symbols import Symbols
from jaxtyping import Bool, Int
from torch_geometric.data import Data

from ev2_plugin.storage.plain_files import read_json

ADSORBATE_TAG = 2
NO_ADSORBATE = "none"
LISTED = 10


@dataclass(frozen=True)
class Catalogue:
    """Structures in the order of their dataset.

    Attributes:
        ids: Identifiers as the files that were evaluated have them, [structures].
        systems: Number of the system of each, from 0, [structures].
        natoms: Atoms, fixed ones included, [structures].
        contains: Elements, by atomic number, [structures, atomic numbers].
        adsorbates: Name of each adsorbate, [structures].
    """

    ids: np.ndarray
    systems: Int[np.ndarray, " structures"]
    natoms: Int[np.ndarray, " structures"]
    contains: Bool[np.ndarray, "structures numbers"]
    adsorbates: np.ndarray

    @property
    def elements(self) -> list[int]:
        """Atomic numbers that occur, in ascending order."""
        return np.flatnonzero(self.contains.any(axis=0)).tolist()


@dataclass
class CatalogueBuilder:
    """Takes structures one after the other.

    Attributes:
        names: Name of the adsorbate by `sid`; where None, the composition of the atoms of tag 2 is its name.
    """

    names: Mapping[str, str] | None = None
    _ids: list[str] = field(default_factory=list)
    _sids: list[str] = field(default_factory=list)
    _natoms: list[int] = field(default_factory=list)
    _contains: list[np.ndarray] = field(default_factory=list)
    _adsorbates: list[str] = field(default_factory=list)

    def add(self, name: str, data: Data) -> None:
        """Add a structure under its identifier.

        Raises:
            ValueError: If adsorbates have names and this system's has none.
        """
        sid = system_of(data)
        numbers = data.atomic_numbers.long().numpy()
        row = np.zeros(len(chemical_symbols), dtype=bool)
        row[numbers] = True
        self._ids.append(name)
        self._sids.append(sid)
        self._natoms.append(len(numbers))
        self._contains.append(row)
        self._adsorbates.append(self._adsorbate(sid, numbers[data.tags.numpy() == ADSORBATE_TAG]))

    def build(self, against: str) -> Catalogue:
        """Finish.

        Args:
            against: What the structures were read from, for messages.

        Raises:
            ValueError: If there are no structures, or two have the same identifier.
        """
        if not self._ids:
            raise ValueError(f"{against} holds no structures")
        repeated = [name for name, count in Counter(self._ids).items() if count > 1]
        refuse(f"identifiers belong to several structures of {against}", repeated)
        return Catalogue(
            ids=np.array(self._ids),
            systems=np.unique(self._sids, return_inverse=True)[1],
            natoms=np.array(self._natoms),
            contains=np.stack(self._contains),
            adsorbates=np.array(self._adsorbates),
        )

    def _adsorbate(self, sid: str, numbers: np.ndarray) -> str:
        if self.names is None:
            return _formula(tuple(sorted(numbers.tolist()))) if len(numbers) else NO_ADSORBATE
        if sid not in self.names:
            raise ValueError(f"the file of adsorbates does not name that of system {sid}")
        return self.names[sid]


def read_adsorbate_names(path: Path) -> dict[str, str]:
    """Read names of adsorbates.

    Args:
        path: JSON object of names by `sid`; a prefix `random` of the sid, as in the OC20 mapping, does not count.

    Raises:
        ValueError: If it is something else.
    """
    names = read_json(path)
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise ValueError(f'{path} must map systems to names of adsorbates: {{"123": "*OH", ...}}')
    return {sid.removeprefix("random"): name for sid, name in names.items()}


def system_of(data: Data) -> str:
    """Number of a structure's system as result files have it."""
    return _plain(data.sid)


def identifier_of(data: Data) -> str:
    """Name of a structure in prediction files: `sid_fid`, or `sid` where it has no frame number."""
    return f"{_plain(data.sid)}_{_plain(data.fid)}" if "fid" in data else _plain(data.sid)


def refuse(what: str, names: list[str]) -> None:
    """Raise a ValueError that counts names and lists the first of them, if there are any."""
    if names:
        shown = ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
        raise ValueError(f"{len(names)} {what}: {shown}")


def _plain(value: Any) -> str:
    return str(value.item() if hasattr(value, "item") else value)


@cache
def _formula(numbers: tuple[int, ...]) -> str:
    return str(Symbols(np.array(numbers)).get_chemical_formula(mode="hill"))
