"""Structures of a campaign as extended XYZ: written whole, found by their names, read one at a time.

ASE's reader makes a number of whatever Python takes for one: 6113423 of the name `6_1134_23`. Such names are written as
JSON, and none is read through `info` here.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms
from ase.io import read, write
from ase.io.extxyz import key_val_str_to_dict

from ev2_plugin.adsorbml.campaign import Campaign, structure_id
from ev2_plugin.potential.structures import Structures, from_atoms

_CONFIG = re.compile(rb'(?:^|\s)config=(?:"_JSON \\"|"?)([A-Za-z0-9_+-]+)(?:\\""|"?)(?=\s|$)')
_NAME = re.compile(r"[A-Za-z0-9_+-]+")


@dataclass(frozen=True)
class Placement:
    """An initial structure in its file.

    Attributes:
        system: Adsorbate and surface: the stem of the file's name.
        config: Placement of the adsorbate.
        path: The file.
        start: Where it begins there [bytes].
        end: Where it ends [bytes].
    """

    system: str
    config: str
    path: Path
    start: int
    end: int

    @property
    def name(self) -> str:
        """Name in relaxations and single points."""
        return structure_id(self.system, self.config)

    def read(self) -> Atoms:
        """Read the structure with its tags and fixed atoms."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            text = file.read(self.end - self.start).decode()
        return read(io.StringIO(text), format="extxyz")


class PlacementSource:
    """Initial structures for `ev2_plugin.relax`, each read when there is room for it."""

    def __init__(self, placements: Sequence[Placement]) -> None:
        self.placements = placements
        self.ids: Sequence[str] = [one.name for one in placements]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Structures:
        return from_atoms([self.placements[index].read()], [self.ids[index]])


def write_structures(path: Path, structures: Sequence[Atoms]) -> None:
    """Write structures with tags, fixed atoms and what `info` holds; the file appears when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"{path.name}.part")
    scratch.write_text(extended_xyz(structures), encoding="utf-8")
    scratch.replace(path)


def extended_xyz(structures: Sequence[Atoms]) -> str:
    """Structures with tags, fixed atoms and what `info` holds, as text; positions to 1e-8 Å."""
    file = io.StringIO()
    for atoms in structures:
        tagged = atoms.copy()
        tagged.set_tags(atoms.get_tags())  # ASE makes the array only when they are set
        columns = ["symbols", "positions", "tags", *(["move_mask"] if atoms.constraints else [])]
        write(file, tagged, format="extxyz", columns=columns, write_results=False)
    return file.getvalue()


def name_placements(structures: Sequence[Atoms], system: str, configs: Sequence[str]) -> list[Atoms]:
    """Give initial structures of one system their names.

    Returns:
        Copies with `system` and `config` as their only `info`.

    Raises:
        ValueError: If a name has other characters than letters, digits, `_`, `+`, `-`, or stands twice.
    """
    named = []
    for atoms, config in zip(structures, configs, strict=True):
        structure_id(system, config)
        if not _NAME.fullmatch(config):
            raise ValueError(f"config {config!r}: names of configurations are letters, digits, '_', '+' and '-'")
        copy = atoms.copy()
        copy.info = {"system": _as_text(system), "config": _as_text(config)}
        named.append(copy)
    if len(set(configs)) < len(configs):
        raise ValueError(f"system {system}: configurations share a name: {', '.join(sorted(configs))}")
    return named


def list_placements(campaign: Campaign) -> list[Placement]:
    """Find all initial structures by reading comment lines only, ordered by system and then as in the files.

    Raises:
        ValueError: If there are none, a file is no extended XYZ, a frame has no `config`, or two have the same.
    """
    found: list[Placement] = []
    for path in sorted(campaign.placements.glob("*.extxyz")):
        found.extend(_scan(path))
    if not found:
        raise ValueError(f"{campaign.placements}: no placements; make some by 'ev2 adsorbml place' or 'import'")
    seen: set[str] = set()
    for one in found:
        if one.name in seen:
            raise ValueError(f"{one.path}: configuration {one.config!r} stands there twice")
        seen.add(one.name)
    return found


def _as_text(name: str) -> str:
    return name if key_val_str_to_dict(f'name="{name}"')["name"] == name else f'_JSON "{name}"'


def _scan(path: Path) -> list[Placement]:
    found: list[Placement] = []
    with path.open("rb") as file:
        while True:
            start = file.tell()
            count = file.readline()
            if not count.strip():
                return found
            comment = file.readline()
            config = _CONFIG.search(comment)
            where = f"{path}, frame {len(found)}"
            if not count.strip().isdigit():
                raise ValueError(f"{where}: {count[:40]!r} should be the number of atoms")
            if config is None:
                raise ValueError(f"{where}: its second line has no config=NAME")
            lines = [file.readline() for _ in range(int(count))]
            if not lines[-1].strip():
                raise ValueError(f"{where}: ends before its {int(count)} atoms")
            found.append(Placement(path.stem, config[1].decode(), path, start, file.tell()))
