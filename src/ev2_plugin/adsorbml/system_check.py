"""Anomaly checks of one system from its files. Nothing here needs torch: processes for this are light."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ev2_plugin.adsorbml.anomalies import find_anomalies
from ev2_plugin.adsorbml.records import RelaxedConfiguration
from ev2_plugin.adsorbml.surface_system import read_clean_slab, read_placements


@dataclass(frozen=True)
class RelaxationEnd:
    """How the relaxation of one structure ended.

    Attributes:
        energy: eV.
        fmax: Largest force on an atom that may move [eV/Å].
        steps: Steps of the relaxation.
        converged: Whether `fmax` came below the threshold.
        positions: Å, [atoms, 3].
    """

    energy: float
    fmax: float
    steps: int
    converged: bool
    positions: np.ndarray


@dataclass(frozen=True)
class SystemRelaxations:
    """A system and what became of its initial structures.

    Attributes:
        system: Its name.
        slab_file: Its clean slab.
        placements_file: Its initial structures.
        configs: Their names, in the order of the file.
        ends: How their relaxations ended, in the same order.
        intercalation: Whether an intercalated adsorbate makes a configuration invalid.
    """

    system: str
    slab_file: Path
    placements_file: Path
    configs: tuple[str, ...]
    ends: tuple[RelaxationEnd, ...]
    intercalation: bool


def check_system(job: SystemRelaxations) -> list[RelaxedConfiguration]:
    """Check all relaxed structures of a system.

    Returns:
        One row of the table for each configuration, in their order.

    Raises:
        ValueError: If initial structures, clean slab and relaxed structures do not belong together.
    """
    slab = read_clean_slab(job.slab_file)
    placements = read_placements(job.placements_file, job.system, job.configs, slab)
    for config, one in zip(job.configs, job.ends, strict=True):
        if len(one.positions) != len(placements.numbers):
            raise ValueError(
                f"{job.system}.{config} was relaxed with {len(one.positions)} atoms, its initial structure has "
                f"{len(placements.numbers)}: the two do not belong together"
            )
    anomalies = find_anomalies(placements, np.stack([one.positions for one in job.ends]), slab)
    valid = anomalies.valid(intercalation=job.intercalation)
    return [
        RelaxedConfiguration(
            system=placements.system,
            config=config,
            energy=one.energy,
            fmax=one.fmax,
            steps=one.steps,
            converged=one.converged,
            dissociated=bool(anomalies.dissociated[index]),
            desorbed=bool(anomalies.desorbed[index]),
            surface_changed=bool(anomalies.surface_changed[index]),
            intercalated=bool(anomalies.intercalated[index]),
            valid=bool(valid[index]),
        )
        for index, (config, one) in enumerate(zip(placements.configs, job.ends, strict=True))
    ]
