"""Initial structures that exist already, such as those of OC20-Dense.

A folder has one sub-folder for each system. In it, `surface.*` or `<system>_surface.*` is the clean slab, of which the
first frame is as placed on and the last one relaxed; `adsorbate.*`, if there is one, the adsorbate alone; every other
file a configuration, of which the first frame is the initial structure, with tags 0, 1 and 2.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read

from ev2_plugin.adsorbml.campaign import Campaign
from ev2_plugin.adsorbml.structure_files import name_placements, write_structures
from ev2_plugin.adsorbml.surface_system import ADSORBATE_TAG
from ev2_plugin.adsorbml.systems import write_system

SURFACE, ADSORBATE = "surface", "adsorbate"


def import_folder(
    campaign: Campaign, folder: Path, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[int, int]:
    """Bring a folder's structures into a campaign; systems that are there stay.

    Args:
        campaign: Where to.
        folder: As the module says; files are any that ASE reads.
        on_progress: Called with systems done and systems in all.

    Returns:
        Systems brought in now, and initial structures of them.

    Raises:
        ValueError: If there are no systems, a system lacks its surface or configurations, or a structure its tags.
    """
    sources = sorted(path for path in folder.iterdir() if path.is_dir())
    if not sources:
        raise ValueError(f"{folder}: no sub-folders; each system's structures should be in one")
    systems = structures = 0
    for number, source in enumerate(sources, 1):
        target = campaign.placements / f"{source.name}.extxyz"
        if not target.exists():
            structures += _import_system(campaign, source, target)
            systems += 1
        on_progress(number, len(sources))
    return systems, structures


def _import_system(campaign: Campaign, source: Path, target: Path) -> int:
    system = source.name
    files = {path.stem: path for path in sorted(source.iterdir()) if path.is_file()}
    surface = files.pop(f"{system}_{SURFACE}", None) or files.pop(SURFACE, None)
    alone = files.pop(ADSORBATE, None)
    if surface is None or not files:
        raise ValueError(f"{source}: should hold {SURFACE}.* (or {system}_{SURFACE}.*) and configurations beside it")
    frames = read(surface, ":")
    initial = {config: read(path, 0) for config, path in files.items()}
    for config, atoms in initial.items():
        if not {1, ADSORBATE_TAG} <= set(atoms.get_tags().tolist()) <= {0, 1, ADSORBATE_TAG}:
            raise ValueError(
                f"{files[config]}: tags are {sorted(set(atoms.get_tags().tolist()))}; they should be 0 below the "
                "surface, 1 at it and 2 for the adsorbate"
            )
    first = next(iter(initial.values()))
    adsorbate = read(alone) if alone is not None else first[first.get_tags() == ADSORBATE_TAG]
    before, relaxed = (_tagged_like(frame, first) for frame in (frames[0], frames[-1]))
    write_system(campaign.systems / f"{system}.extxyz", relaxed, adsorbate, before)
    write_structures(target, name_placements(list(initial.values()), system, list(initial)))
    return len(initial)


def _tagged_like(slab: Atoms, placed: Atoms) -> Atoms:
    """The clean slab with the tags of the same atoms under an adsorbate, where its file has none."""
    tagged = slab.copy()
    tags = placed.get_tags()
    if not slab.get_tags().any() and len(slab) == np.count_nonzero(tags != ADSORBATE_TAG):
        tagged.set_tags(tags[tags != ADSORBATE_TAG])
    return tagged
