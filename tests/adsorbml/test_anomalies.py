"""Anomaly checks: hand-made cases of each kind, cases close to the thresholds, and the host's own detector."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from ev2_plugin.adsorbml.anomalies import Anomalies, find_anomalies
from helpers.adslabs import adsorbed, clean, placements, tagged_slab

FLAGS = ("dissociated", "desorbed", "surface_changed", "intercalated")
CO = Atoms("CO", [[0, 0, 0], [0, 0, 1.15]])


def flags_of(initial: Atoms, final: Atoms, slab: Atoms) -> list[str]:
    """Names of what is found in one structure."""
    found = find_anomalies(placements(initial), final.positions[None], clean(slab))
    return [name for name in FLAGS if getattr(found, name)[0]]


@pytest.fixture
def slab() -> Atoms:
    return tagged_slab()


@pytest.fixture
def initial(slab: Atoms) -> Atoms:
    """CO on top of an atom in the middle of the slab."""
    return adsorbed(slab, CO, atom=22)


def test_a_structure_that_relaxed_a_little_is_normal(initial: Atoms, slab: Atoms) -> None:
    final = initial.copy()
    final.positions += np.random.default_rng(0).normal(scale=0.05, size=final.positions.shape)
    assert flags_of(initial, final, slab) == []


def test_an_adsorbate_that_breaks_is_dissociated(initial: Atoms, slab: Atoms) -> None:
    final = initial.copy()
    final.positions[-1] = slab.positions[18] + [0, 0, 1.8]
    assert flags_of(initial, final, slab) == ["dissociated"]


def test_atoms_of_an_adsorbate_that_come_together_count_as_dissociated(slab: Atoms) -> None:
    apart = Atoms("HH", [[0, 0, 0], [2.5, 0, 0]])
    initial = adsorbed(slab, apart, atom=22)
    final = initial.copy()
    final.positions[-1, 0] -= 1.7
    assert flags_of(initial, final, slab) == ["dissociated"]


def test_an_adsorbate_that_leaves_is_desorbed(initial: Atoms, slab: Atoms) -> None:
    final = initial.copy()
    final.positions[-2:, 2] += 2.5
    assert flags_of(initial, final, slab) == ["desorbed"]


def test_an_adsorbate_that_reaches_the_next_image_of_the_slab_is_not_desorbed(initial: Atoms, slab: Atoms) -> None:
    final = initial.copy()
    final.positions[-2:, 2] += slab.cell[2, 2] - np.ptp(slab.positions[:, 2]) - 1.8 - 1.15 - 1.8
    found = flags_of(initial, final, slab)
    assert "desorbed" not in found
    assert "intercalated" in found  # the lowest layer has tag 0


def test_a_slab_that_loses_a_bond_has_changed(initial: Atoms, slab: Atoms) -> None:
    final = initial.copy()
    final.positions[26, 2] += 4.0
    assert flags_of(initial, final, slab) == ["surface_changed"]


def test_a_slab_that_gains_a_bond_has_changed(initial: Atoms, slab: Atoms) -> None:
    spread = slab.copy()  # the clean slab had two atoms elsewhere: none of its bonds is lost, some are new
    spread.positions[26] += [0, 0, 5.0]
    back = find_anomalies(placements(initial), initial.positions[None], clean(spread))
    assert back.surface_changed[0]


def test_an_adsorbate_below_the_surface_is_intercalated(initial: Atoms, slab: Atoms) -> None:
    final = initial.copy()
    hollow = slab.positions[[9, 10, 12]].mean(axis=0)
    final.positions[-2:] = hollow + [[0, 0, 1.1], [0, 0, 2.25]]
    assert flags_of(initial, final, slab) == ["intercalated"]


@pytest.mark.parametrize("shift", [-1e-6, 1e-6])
def test_flags_turn_at_their_distances(slab: Atoms, shift: float) -> None:
    """Limits from covalent radii (Cu 1.32, C 0.76, O 0.66 Å), multipliers, and 0.3 Å per atom."""
    initial = adsorbed(slab, CO, atom=22)
    beyond = shift > 0
    final = initial.copy()
    final.positions[-1, 2] = final.positions[-2, 2] + 0.76 + 0.66 + 0.6 + shift
    assert (flags_of(initial, final, slab) == ["dissociated"]) == beyond
    alone = Atoms("CuC", [[0, 0, 0], [0, 0, 2.0]], cell=[20.0] * 3, pbc=True, tags=[1, 2])
    final = alone.copy()
    final.positions[1, 2] = 1.5 * (1.32 + 0.76) + 0.6 + shift
    assert (flags_of(alone, final, alone[:1]) == ["desorbed"]) == beyond
    deep = Atoms("CuC", [[0, 0, 0], [0, 0, 2.0]], cell=[20.0] * 3, pbc=True, tags=[0, 2])
    final.positions[1, 2] = 1.32 + 0.76 + 0.6 + shift
    assert (flags_of(deep, final, deep[:1]) == ["intercalated"]) != beyond


@pytest.mark.parametrize("shift", [-1e-6, 1e-6])
def test_slab_bonds_have_a_cushion_on_one_side(shift: float) -> None:
    near, far = 2 * 1.32 + 0.6, 3 * 1.32 + 0.6
    beyond = shift > 0

    def pair(distance: float) -> Atoms:
        return Atoms("CuCuO", [[0, 0, 0], [distance, 0, 0], [0, 0, 1.8]], cell=[30.0] * 3, pbc=True, tags=[1, 1, 2])

    broken = flags_of(pair(near - 1e-3), pair(far + shift), pair(near - 1e-3)[:2])
    assert (broken == ["surface_changed"]) == beyond
    formed = flags_of(pair(far), pair(near - 1e-3), pair(far + shift)[:2])
    assert (formed == ["surface_changed"]) == beyond


def test_atoms_that_cross_the_boundary_of_the_cell_stay_where_they_are(initial: Atoms, slab: Atoms) -> None:
    rng = np.random.default_rng(2)
    final = initial.copy()
    final.positions += rng.integers(-2, 3, (len(final), 3)) @ np.array(final.cell)
    assert flags_of(initial, final, slab) == []


def test_validity_asks_for_intercalation_only_where_told() -> None:
    kinds = np.eye(4, dtype=bool)
    found = Anomalies(*kinds)
    assert found.valid(intercalation=False).tolist() == [False, False, False, True]
    assert found.valid(intercalation=True).tolist() == [False] * 4
    none = Anomalies(*np.zeros((4, 2), dtype=bool))
    assert none.valid(intercalation=True).all()


def test_other_numbers_of_structures_and_lost_positions_are_refused(initial: Atoms, slab: Atoms) -> None:
    with pytest.raises(ValueError, match=r"\[2, 29, 3\], initial ones \[1, 29, 3\]"):
        find_anomalies(placements(initial), np.stack([initial.positions] * 2), clean(slab))
    lost = initial.positions.copy()
    lost[3, 1] = np.nan
    with pytest.raises(ValueError, match="system system, random-001: a position"):
        find_anomalies(placements(initial, initial), np.stack([initial.positions, lost]), clean(slab))


def distorted(metal: str, adsorbate: str, pbc: tuple[bool, bool, bool], rng: np.random.Generator) -> list[list[Atoms]]:
    """A skewed slab, the slab relaxed, and initial and final structures with all kinds of damage."""
    slab = tagged_slab(metal, (2, 3, 3), vacuum=5.0)
    slab.set_cell(slab.cell.array + rng.uniform(-0.4, 0.4, (3, 3)), scale_atoms=True)
    slab.pbc = pbc
    relaxed = slab.copy()
    relaxed.positions += rng.normal(scale=0.05, size=slab.positions.shape)
    initial = [adsorbed(slab, molecule(adsorbate), atom=int(rng.integers(12, 18))) for _ in range(12)]
    final = [one.copy() for one in initial]
    for index, one in enumerate(final):
        one.positions += rng.normal(scale=[0.02, 0.2, 0.7][index % 3], size=one.positions.shape)
        one.positions[one.get_tags() == 2, 2] += [0.0, -2.5, 2.5, 4.0][index % 4]
        one.positions += (rng.integers(-1, 2, (len(one), 3)) * np.array(pbc)) @ one.cell.array
    return [[slab, relaxed], initial, final]


def test_every_flag_is_that_of_the_hosts_detector() -> None:
    detector = pytest.importorskip("fairchem.data.oc.utils.flag_anomaly").DetectTrajAnomaly
    rng = np.random.default_rng(5)
    seen, expected = [], []
    for metal, adsorbate, pbc in (
        ("Cu", "CH3OH", (True, True, True)),
        ("Pt", "NH3", (True, True, False)),
        ("Al", "H2O", (True, True, True)),
        ("Ag", "CH3CHO", (False, True, True)),
        ("Ni", "O2", (True, True, False)),
    ):
        (slab, relaxed), initial, final = distorted(metal, adsorbate, pbc, rng)
        positions = np.stack([one.positions for one in final])
        found = find_anomalies(placements(*initial), positions, clean(slab, relaxed))
        seen.append(np.stack([getattr(found, name) for name in FLAGS]))
        for one, other in zip(initial, final, strict=True):
            host = detector(one, other, one.get_tags(), final_slab_atoms=relaxed)
            expected.append(
                (
                    host.is_adsorbate_dissociated(),
                    host.is_adsorbate_desorbed(),
                    host.has_surface_changed(),
                    host.is_adsorbate_intercalated(),
                )
            )
    flags = np.concatenate(seen, axis=1).T
    np.testing.assert_array_equal(flags, expected)
    assert ((flags.mean(axis=0) > 0.1) & (flags.mean(axis=0) < 0.9)).all(), "each flag should be raised and not raised"
