"""The first stage of a campaign: slabs and adsorbates in, systems and their initial structures out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ev2_plugin.adsorbml.campaign import Campaign
from ev2_plugin.adsorbml.settings_file import settle
from ev2_plugin.adsorbml.slabs import NamedSlab
from ev2_plugin.adsorbml.structure_files import write_structures
from ev2_plugin.adsorbml.systems import REFERENCE_KEYS, energy_of, relax, write_system
from ev2_plugin.integration.placements import NamedAdsorbate, PlacementSettings, place, system_name


def place_all(
    campaign: Campaign,
    slabs: Sequence[NamedSlab],
    adsorbates: Sequence[NamedAdsorbate],
    settings: PlacementSettings,
    relax_with: tuple[str, Mapping[str, Any]] | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[int, int]:
    """Place every adsorbate on every slab; systems that are there stay.

    Args:
        campaign: Where to; a later call may add slabs and adsorbates.
        slabs: Clean and relaxed, or relaxed here.
        adsorbates: Alone.
        settings: The same as in earlier calls.
        relax_with: ASE calculator and its keywords, to relax slabs and adsorbates first and note their energies.
        on_progress: Called with systems done and systems in all.

    Returns:
        Systems placed now, and structures of them.

    Raises:
        ValueError: If settings differ from an earlier call's, two systems have the same name, a slab is too small, or
            something does not relax.
    """
    pairs = {system_name(slab, adsorbate): (slab, adsorbate) for slab in slabs for adsorbate in adsorbates}
    if len(pairs) < len(slabs) * len(adsorbates):
        raise ValueError("two slabs or two adsorbates have the same name; names of files are names of slabs")
    asked = asdict(settings)
    asked["modes"] = list(settings.modes)
    settle(campaign.folder, "place", asked, asked)
    prepared: dict[str, NamedSlab] = {}
    systems = structures = 0
    for number, (system, (slab, adsorbate)) in enumerate(pairs.items(), 1):
        target = campaign.placements / f"{system}.extxyz"
        if not target.exists():
            if slab.name not in prepared:
                prepared[slab.name] = slab if relax_with is None else _relaxed_slab(slab, *relax_with)
            ready = adsorbate if relax_with is None else _relaxed_adsorbate(adsorbate, *relax_with)
            placed = place(prepared[slab.name], ready, settings)
            write_system(
                campaign.systems / f"{system}.extxyz", _with_references(prepared[slab.name], ready), ready.atoms
            )
            write_structures(target, placed)
            systems, structures = systems + 1, structures + len(placed)
        on_progress(number, len(pairs))
    return systems, structures


def _relaxed_slab(slab: NamedSlab, calculator: str, keywords: Mapping[str, Any]) -> NamedSlab:
    atoms = relax(slab.atoms, calculator, keywords)
    atoms.info[REFERENCE_KEYS[0]] = energy_of(atoms, calculator, keywords)
    return NamedSlab(slab.name, atoms)


def _relaxed_adsorbate(adsorbate: NamedAdsorbate, calculator: str, keywords: Mapping[str, Any]) -> NamedAdsorbate:
    atoms = relax(adsorbate.atoms, calculator, keywords)
    atoms.info[REFERENCE_KEYS[1]] = energy_of(atoms, calculator, keywords)
    return NamedAdsorbate(adsorbate.name, atoms, adsorbate.binding)


def _with_references(slab: NamedSlab, adsorbate: NamedAdsorbate) -> Any:
    """The slab with all reference energies that are known."""
    atoms = slab.atoms.copy()
    for key, source in zip(REFERENCE_KEYS, (slab.atoms, adsorbate.atoms), strict=True):
        if key in source.info:
            atoms.info[key] = source.info[key]
    return atoms
