"""Where structures come from: names known beforehand, each structure read when there is room for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ase import Atoms

from ev2_plugin.potential.structures import Structures, from_atoms

LONGEST_ID = 250
"""Bytes: names of files hold 255, and an id becomes `<id>.traj`."""


@runtime_checkable
class Source(Protocol):
    """Structures to relax.

    Attributes:
        ids: Name of each.
    """

    ids: Sequence[str]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Structures:
        """Structure number `index` by itself, called `ids[index]`."""
        ...


class AtomsSource:
    """Structures that ASE holds.

    Args:
        structures: Constraints may be `FixAtoms` only.
        ids: A name for each.

    Raises:
        ValueError: If there are not as many names as structures.
    """

    def __init__(self, structures: Sequence[Atoms], ids: Sequence[str]) -> None:
        if len(structures) != len(ids):
            raise ValueError(f"{len(structures)} structures have {len(ids)} names")
        self.structures, self.ids = structures, ids

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Structures:
        return from_atoms([self.structures[index]], [self.ids[index]])


def check_ids(ids: Sequence[str]) -> None:
    """Refuse names that two structures share, or that no file can have.

    Raises:
        ValueError: Naming the first few.
    """
    twice = [name for name, count in Counter(ids).items() if count > 1]
    if twice:
        raise ValueError(
            f"{len(twice)} ids belong to more than one structure ({_some(twice)}): each result is filed under its id, "
            "so each structure needs one of its own"
        )
    unfit = [name for name in ids if not _fits_a_file(name)]
    if unfit:
        raise ValueError(
            f"{len(unfit)} ids cannot be names of files ({_some(unfit)}): they should have 1 to {LONGEST_ID} bytes of "
            "UTF-8 without '/', and no '.' in front"
        )


def _fits_a_file(name: str) -> bool:
    try:
        length = len(name.encode())
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return 1 <= length <= LONGEST_ID and "/" not in name and "\0" not in name and not name.startswith(".")


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
