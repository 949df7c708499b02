"""Total energies to adsorption energies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from ev2_plugin.adsorbml.records import RankedConfiguration, SinglePoint, Target

Record = TypeVar("Record", RankedConfiguration, SinglePoint, Target)


def adsorption_energies(records: Iterable[Record], references: Mapping[str, float]) -> list[Record]:
    """Subtract the energies of the clean slab and of the adsorbate alone.

    Args:
        records: With total energies [eV]; one without energy stays so.
        references: Energy of slab and adsorbate together of each system that counts [eV].

    Returns:
        Records of these systems, in their order; those of other systems are left out.
    """
    return [
        replace(one, energy=None if one.energy is None else one.energy - references[one.system])
        for one in records
        if one.system in references
    ]
