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
        references: Energy of slab and adsorbate together of each system [eV].

    Raises:
        ValueError: If there is no reference for a system.
    """
    found = []
    for record in records:
        if record.system not in references:
            raise ValueError(
                f"system {record.system}: no reference energies to make adsorption energies of total ones; "
                "they are slab_energy and adsorbate_energy in the info of its file"
            )
        energy = None if record.energy is None else record.energy - references[record.system]
        found.append(replace(record, energy=energy))
    return found
