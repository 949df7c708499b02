"""Initial structures by fairchem-data-oc: an adsorbate on the sites of a slab, heuristic and random.

Its functions draw from numpy's global random numbers, which are seeded for each system and given back as they were:
a system's placements depend on seed, slab and adsorbate alone, not on what else is placed.
"""

from __future__ import annotations

import difflib
import logging
import pickle
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.collections import g2
from ase.data import atomic_numbers
from ase.io import read

try:
    from fairchem.data.oc.core import Adsorbate, AdsorbateSlabConfig, Slab
    from fairchem.data.oc.databases.pkls import ADSORBATE_PKL_PATH
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"placements need a package that is not installed ({error.name}): pip install 'ev2-plugin[adsorbml]'"
    ) from error

from ev2_plugin.adsorbml.slabs import NamedSlab
from ev2_plugin.adsorbml.structure_files import name_placements

MODES = {
    "heuristic": "heuristic",
    "random": "random",
    "random_site_heuristic_placement": "random-site",
}
"""Modes of `AdsorbateSlabConfig` and how their configurations are called."""


@dataclass(frozen=True)
class NamedAdsorbate:
    """A molecule to place.

    Attributes:
        name: Part of the names of its systems.
        atoms: The molecule alone.
        binding: Atoms that may bind to the surface.
    """

    name: str
    atoms: Atoms
    binding: tuple[int, ...]


@dataclass(frozen=True)
class PlacementSettings:
    """How an adsorbate is placed.

    Attributes:
        modes: Some of `MODES`.
        sites: Sites of the random modes; the heuristic one takes all that it finds.
        augmentations: Orientations per site.
        gap: Least distance between covalent spheres of adsorbate and slab [Å].
        min_width: Least length of the slab's first two cell vectors, below which images of the adsorbate meet [Å].
        seed: Of all that is drawn.

    Raises:
        ValueError: If a number cannot be right, or a mode is unknown or given twice.
    """

    modes: tuple[str, ...] = ("heuristic", "random")
    sites: int = 100
    augmentations: int = 1
    gap: float = 0.1
    min_width: float = 8.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.modes or len(set(self.modes)) < len(self.modes) or not set(self.modes) <= set(MODES):
            raise ValueError(f"modes {', '.join(self.modes)}: choose some of {', '.join(MODES)}, each once")
        if self.sites < 1 or self.augmentations < 1:
            raise ValueError(f"{self.sites} sites with {self.augmentations} orientations: both must be at least 1")
        if not 0 <= self.gap < 5:
            raise ValueError(f"the gap must be from 0 to less than 5 Å, got {self.gap}")
        if self.seed < 0:
            raise ValueError(f"the seed must be 0 or more, got {self.seed}")


def load_adsorbate(text: str) -> NamedAdsorbate:
    """Find an adsorbate.

    Args:
        text: A name of fairchem's database, like `*OH`; or, with the atoms that bind, a file that ASE reads or a
            molecule or atom that ASE knows: `CO@1`, `ethanol.xyz@0,2`. One atom needs no `@0`.

    Raises:
        ValueError: If there is no such adsorbate, or nothing says which atom binds.
    """
    database = _database()
    if text in database:
        atoms, binding = database[text]
        return NamedAdsorbate(text.strip("*").replace("*", "-"), atoms, binding)
    name, at, indices = text.partition("@")
    atoms = _molecule(name, text, database)
    if not at and len(atoms) > 1:
        raise ValueError(
            f"adsorbate {text!r}: say which atom binds to the surface, counted from 0 among "
            f"{', '.join(atoms.get_chemical_symbols())}: {text}@0"
        )
    try:
        binding = tuple(int(one) for one in indices.split(",")) if at else (0,)
    except ValueError:
        raise ValueError(f"adsorbate {text!r}: what follows @ should be numbers of atoms, like @0 or @0,2") from None
    if not all(0 <= one < len(atoms) for one in binding):
        raise ValueError(f"adsorbate {text!r} has atoms 0 to {len(atoms) - 1}, not {indices}")
    return NamedAdsorbate(Path(name).stem, atoms, binding)


def system_name(slab: NamedSlab, adsorbate: NamedAdsorbate) -> str:
    """Name of the adsorbate on the slab."""
    return f"{slab.name}_{adsorbate.name}"


def place(slab: NamedSlab, adsorbate: NamedAdsorbate, settings: PlacementSettings) -> list[Atoms]:
    """Place an adsorbate on a slab.

    Returns:
        Structures with tag 2 on the adsorbate, which comes last, and the slab's fixed atoms; `info` holds `system` and
        `config`, like `heuristic-003` or `random-017`.

    Raises:
        ValueError: If the slab is too small.
    """
    widths = np.linalg.norm(slab.atoms.cell.array[:2], axis=1)
    if widths.min() < settings.min_width:
        raise ValueError(
            f"slab {slab.name} is {widths.min():.2f} Å wide, less than {settings.min_width} Å, so adsorbates would "
            "meet their own images: repeat the slab, or allow it by --min-width"
        )
    system = system_name(slab, adsorbate)
    host_slab = Slab(slab_atoms=slab.atoms, min_ab=settings.min_width)
    host_adsorbate = Adsorbate(adsorbate_atoms=adsorbate.atoms, adsorbate_binding_indices=list(adsorbate.binding))
    structures, configs = [], []
    for mode in settings.modes:
        with _global_random_numbers([settings.seed, zlib.crc32(f"{system} {mode}".encode())]), _quiet():
            placed = AdsorbateSlabConfig(
                host_slab, host_adsorbate, settings.sites, settings.augmentations, settings.gap, mode
            ).atoms_list
        for number, atoms in enumerate(placed):
            atoms.pbc = slab.atoms.pbc  # the host makes the third direction free, which its slabs are not
            structures.append(atoms)
            configs.append(f"{MODES[mode]}-{number:03d}")
    return name_placements(structures, system, configs)


def _database() -> dict[str, tuple[Atoms, tuple[int, ...]]]:
    with Path(ADSORBATE_PKL_PATH).open("rb") as file:  # a file of the installed package
        entries = pickle.load(file).values()
    return {entry[1]: (entry[0], tuple(int(one) for one in entry[2])) for entry in entries}


def _molecule(name: str, text: str, database: dict[str, tuple[Atoms, tuple[int, ...]]]) -> Atoms:
    if Path(name).exists():
        return read(name)
    if name in g2.names:
        return molecule(name)
    if name in atomic_numbers:
        return Atoms(name)
    near = difflib.get_close_matches(text, [*database, *g2.names], cutoff=0.5)
    raise ValueError(
        f"adsorbate {text!r} is no name of fairchem's database (like *OH), no file and no molecule that ASE knows"
        + (f"; there are {', '.join(near)}" if near else "")
    )


@contextmanager
def _global_random_numbers(seed: Sequence[int]) -> Iterator[None]:
    before = np.random.get_state()  # noqa: NPY002  the host draws from there
    np.random.seed(list(seed))  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


@contextmanager
def _quiet() -> Iterator[None]:
    """The heuristic mode warns of more sites than a number that it does not use, and spglib of its own future."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)
