"""FIRE against ASE's, step by step."""

from __future__ import annotations

import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.optimize import FIRE as AseFIRE

from ev2_plugin.relax.fire import FIRE
from ev2_plugin.relax.relaxation import Relaxation
from ev2_plugin.relax.settings import Budget, Settings
from ev2_plugin.relax.source import AtomsSource
from helpers.potentials import Wells, emt, rough_slabs, scattered


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (FIRE(), {}),
        (
            FIRE(dt=0.3, maxstep=0.05, Nmin=2, astart=0.25),
            {"dt": 0.3, "maxstep": 0.05, "Nmin": 2, "astart": 0.25, "a": 0.25},
        ),
    ],
)
def test_each_structure_of_a_batch_goes_ases_way(ours: FIRE, theirs: dict[str, float]) -> None:
    structures = rough_slabs(4)
    frames: dict[int, list[np.ndarray]] = {}

    def keep(group, prediction) -> None:
        parts = group.structures.positions.split(group.structures.natoms.tolist())
        for member, part in zip(group.members, parts, strict=True):
            frames.setdefault(member.index, []).append(part.numpy())

    settings = Settings(ours, fmax=0.05, max_steps=80, budget=Budget(max_structures=2))
    relaxation = Relaxation(AtomsSource(structures, list("abcd")), emt(), settings, keep)
    finished = {}
    while not relaxation.done:
        finished |= {one.index: one for one in relaxation.advance()}

    for index, atoms in enumerate(structures):
        expected: list[np.ndarray] = []
        alone = atoms.copy()
        alone.calc = EMT()
        optimizer = AseFIRE(alone, logfile=None, **theirs)
        optimizer.attach(lambda where=alone, seen=expected: seen.append(where.positions.copy()))
        optimizer.run(fmax=0.05, steps=80)
        assert finished[index].steps == optimizer.nsteps > 5
        for one, other in zip(frames[index], expected, strict=True):
            assert np.abs(one - other).max() < 1e-9


def test_a_structure_without_forces_stays_where_it_is() -> None:
    atoms = scattered(1)[0]
    atoms.positions[:] = 0
    settings = Settings(FIRE(), fmax=0.0, max_steps=5)
    relaxation = Relaxation(AtomsSource([atoms], ["still"]), Wells(), settings)
    finished = []
    while not relaxation.done:
        finished += relaxation.advance()
    assert finished[0].steps == 5
    assert not finished[0].positions.any()
