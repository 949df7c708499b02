"""Predictions, relaxations and campaigns for a report to show, with errors that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase.build import fcc111
from ase.constraints import FixAtoms

from ev2_plugin.adsorbml.campaign import Campaign
from ev2_plugin.adsorbml.records import RelaxedConfiguration
from ev2_plugin.adsorbml.score_table import write_scores
from ev2_plugin.adsorbml.success_rate import PotentialOnly, Score, Scores
from ev2_plugin.adsorbml.tables import write_table
from ev2_plugin.data.lmdb import write_lmdb
from ev2_plugin.data.structures import structure_to_data
from ev2_plugin.relax.folder import relax_in_folder
from ev2_plugin.relax.frames import Kept
from ev2_plugin.relax.settings import Settings
from ev2_plugin.relax.source import AtomsSource
from helpers.campaigns import write_placements
from helpers.potentials import emt, rough_slabs

ENERGY_OUTLIER, FORCE_OUTLIER = "3_0", "5_0"
"""Their energy is off by 3 eV, a component of a force by 4 eV/Å; all others by at most 0.1."""


def write_predictions(folder: Path, number: int = 8) -> tuple[Path, Path]:
    """Write predictions of slabs of 9 to 13 atoms, 5 to 9 of them free; the file, and the dataset with the labels."""
    rng = np.random.default_rng(0)
    structures, predictions = [], []
    for sid in range(number):
        slab = fcc111("Cu" if sid % 2 else "Pt", (2, 2, 2 + sid % 2), vacuum=5.0, periodic=True)
        slab.append("OH"[sid % 2])
        slab.positions[-1] = slab.positions[-2] + [0.1, 0.2, 1.6]
        slab.set_tags([0] * 4 + [1] * (len(slab) - 5) + [2])
        slab.set_constraint(FixAtoms(range(4)))
        energy, forces = float(rng.normal()), rng.normal(size=(len(slab), 3)) * 10.0 ** rng.integers(-2, 1)
        structures.append(structure_to_data(slab, sid=sid, fid=0, energy=energy, forces=forces))
        error = 0.1 * rng.uniform(-1, 1, size=(len(slab) - 4, 3))
        error[-1, 2] += 4.0 * (f"{sid}_0" == FORCE_OUTLIER)
        off = 3.0 * (f"{sid}_0" == ENERGY_OUTLIER) + 0.1 * float(rng.uniform(-1, 1))
        predictions.append((f"{sid}_0", energy + off, forces[4:] + error))
    write_lmdb(folder / "labels" / "data.lmdb", structures)
    names, energies, forces = zip(*predictions, strict=True)
    file = folder / "s2ef_predictions.npz"
    ends = np.cumsum([len(one) for one in forces])
    np.savez(file, ids=names, energy=np.array(energies), forces=np.concatenate(forces), chunk_idx=ends[:-1])
    return file, folder / "labels"


def relax_slabs(folder: Path, *, trajectories: Kept = "full", max_steps: int = 60) -> Path:
    """Relax three slabs, as `ev2 relax` and the trainer do it; the folder."""
    slabs = rough_slabs(3)
    source = AtomsSource(slabs, [f"slab-{number}" for number in range(len(slabs))])
    relax_in_folder(source, emt(), Settings(fmax=0.05, max_steps=max_steps), folder, trajectories=trajectories)
    return folder


def write_campaign(folder: Path) -> Path:
    """Write the files of a campaign that was scored."""
    campaign = Campaign(folder)
    slab = rough_slabs(1)[0]
    slab.info.clear()
    write_placements(campaign, "one", slab, slab[:1], {f"random-{index:03d}": slab for index in range(4)})
    rows = [
        RelaxedConfiguration("one", f"random-{i:03d}", -1.0 - i, 0.01, 9, i < 2, i == 1, False, False, False, i != 1)
        for i in range(4)
    ]
    write_table(campaign.relaxed, rows, RelaxedConfiguration)
    scores = Scores(
        systems=4,
        without_valid=1,
        target_scf_steps=1000,
        target_ionic_steps=100,
        top_k=tuple(Score(k, 4, k // 2 + 1, 1, k, 0, 100.0 / k, None) for k in range(1, 6)),
        potential_only=PotentialOnly(4, 2, 0, 1),
    )
    write_scores(campaign.scores, campaign.score_table, scores)
    return folder
