"""Placements: what fairchem-data-oc makes from the same random numbers, with names, tags and fixed atoms."""

from __future__ import annotations

import importlib
import sys
import zlib
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from fairchem.data.oc.core import Adsorbate, AdsorbateSlabConfig, Slab
from fairchem.data.oc.core.adsorbate_slab_config import there_is_overlap

from ev2_plugin.adsorbml.campaign import Campaign
from ev2_plugin.adsorbml.slabs import NamedSlab, load_slab
from ev2_plugin.adsorbml.structure_files import list_placements
from ev2_plugin.adsorbml.surface_system import read_clean_slab, read_placements, read_reference_energy
from ev2_plugin.integration import placements
from ev2_plugin.integration.adsorbml_placing import place_all
from ev2_plugin.integration.placements import PlacementSettings, load_adsorbate, place

pytestmark = pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")  # of spglib's, in the host

SMALL = {"sites": 3, "min_width": 5.0}
ALL_MODES = ("heuristic", "random", "random_site_heuristic_placement")


@pytest.fixture(scope="module")
def slab() -> NamedSlab:
    return load_slab("Cu:111:2x2x3")


def test_structures_are_the_hosts_from_the_same_random_numbers(slab: NamedSlab) -> None:
    adsorbate = load_adsorbate("*CO")
    placed = place(slab, adsorbate, PlacementSettings(ALL_MODES, seed=5, **SMALL))
    expected = []
    for mode in ALL_MODES:
        np.random.seed([5, zlib.crc32(f"Cu-111-2x2x3_CO {mode}".encode())])  # noqa: NPY002
        host = AdsorbateSlabConfig(
            Slab(slab_atoms=slab.atoms, min_ab=5.0), Adsorbate(adsorbate_smiles_from_db="*CO"), 3, mode=mode
        )
        expected += host.atoms_list
    names = [one.info["config"] for one in placed]
    assert names == [*(f"heuristic-{n:03d}" for n in range(4)), *(f"random-{n:03d}" for n in range(3))] + [
        f"random-site-{n:03d}" for n in range(3)
    ]
    for ours, theirs in zip(placed, expected, strict=True):
        np.testing.assert_array_equal(ours.positions, theirs.positions)
        np.testing.assert_array_equal(ours.get_tags(), theirs.get_tags())


def test_placements_keep_the_slab_and_touch_nothing(slab: NamedSlab) -> None:
    placed = place(slab, load_adsorbate("*OH"), PlacementSettings(**SMALL))
    assert len(placed) == 7
    for atoms in placed:
        np.testing.assert_array_equal(atoms.positions[:12], slab.atoms.positions)
        assert atoms.get_tags().tolist() == [*slab.atoms.get_tags(), 2, 2]
        assert atoms.constraints[0].index.tolist() == list(range(8))
        assert atoms.pbc.all()
        assert not there_is_overlap(atoms)
        assert atoms.info["system"] == "Cu-111-2x2x3_OH"


def test_seeds_decide_and_nobody_elses_random_numbers_change(slab: NamedSlab) -> None:
    adsorbate, other = load_adsorbate("*CO"), load_adsorbate("*OH")
    np.random.seed(3)  # noqa: NPY002
    first = place(slab, adsorbate, PlacementSettings(**SMALL))
    drawn = np.random.random()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    assert drawn == np.random.random()  # noqa: NPY002
    place(slab, other, PlacementSettings(**SMALL))
    again = place(slab, adsorbate, PlacementSettings(**SMALL))
    different = place(slab, adsorbate, PlacementSettings(seed=1, **SMALL))
    assert all((one.positions == two.positions).all() for one, two in zip(first, again, strict=True))
    assert not any((one.positions == two.positions).all() for one, two in zip(first, different, strict=True))


def test_adsorbates_come_from_the_database_files_or_ase(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "mine.xyz", molecule("CH3OH"))
    assert load_adsorbate("*CH2*O").name == "CH2-O"
    assert load_adsorbate("*CH2*O").binding == (0, 3)
    assert load_adsorbate("CO@1").binding == (1,)
    assert load_adsorbate(f"{tmp_path / 'mine.xyz'}@0,1").name == "mine"
    assert load_adsorbate(f"{tmp_path / 'mine.xyz'}@0,1").binding == (0, 1)
    assert str(load_adsorbate("H").atoms.symbols) == "H"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("*OHH", r"no name of fairchem's database .*; there are \*OH"),
        ("CO", "say which atom binds to the surface, counted from 0 among O, C: CO@0"),
        ("CO@2", "has atoms 0 to 1, not 2"),
        ("CO@C", "should be numbers of atoms"),
    ],
)
def test_unknown_adsorbates_are_refused_and_not_drawn_by_lot(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_adsorbate(text)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"modes": ()}, "choose some of"),
        ({"modes": ("heuristic", "heuristic")}, "each once"),
        ({"modes": ("best",)}, "modes best: choose some of heuristic"),
        ({"sites": 0}, "must be at least 1"),
        ({"gap": 5.0}, "less than 5"),
        ({"seed": -1}, "the seed must be 0 or more"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PlacementSettings(**settings)


def test_narrow_slabs_are_refused(slab: NamedSlab) -> None:
    with pytest.raises(ValueError, match=r"5\.11 Å wide, less than 8\.0 Å"):
        place(slab, load_adsorbate("H"), PlacementSettings())


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fairchem.data.oc.core", None)
    before = dict(vars(placements))
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'ev2-plugin\[adsorbml\]'"):
        importlib.reload(placements)
    vars(placements).update(before)


def test_systems_are_placed_once_and_can_be_added_to(tmp_path: Path, slab: NamedSlab) -> None:
    campaign, settings = Campaign(tmp_path), PlacementSettings(**SMALL)
    oxygen, hydrogen = load_adsorbate("*O"), load_adsorbate("*H")
    assert place_all(campaign, [slab], [oxygen], settings, ("emt", {})) == (1, 7)
    first = (campaign.placements / "Cu-111-2x2x3_O.extxyz").read_bytes()
    seen: list[tuple[int, int]] = []
    assert place_all(campaign, [slab], [oxygen, hydrogen], settings, None, lambda *one: seen.append(one)) == (1, 7)
    assert seen == [(1, 2), (2, 2)]
    assert (campaign.placements / "Cu-111-2x2x3_O.extxyz").read_bytes() == first
    found = list_placements(campaign)
    for system in ("Cu-111-2x2x3_H", "Cu-111-2x2x3_O"):
        path = campaign.systems / f"{system}.extxyz"
        of_system = [one for one in found if one.system == system]
        clean = read_clean_slab(path)
        read = read_placements(of_system[0].path, system, [one.config for one in of_system], clean)
        assert len(read.configs) == 7
        assert (read_reference_energy(path) is not None) == system.endswith("O")
        moved = np.abs(clean.relaxed - slab.atoms.positions).max()
        assert (0.001 < moved < 0.2) == system.endswith("O")


def test_a_campaign_keeps_its_settings_and_its_names(tmp_path: Path, slab: NamedSlab) -> None:
    campaign, oxygen = Campaign(tmp_path), load_adsorbate("*O")
    place_all(campaign, [slab], [oxygen], PlacementSettings(("heuristic",), **SMALL))
    with pytest.raises(ValueError, match="'place' was begun with seed 0, now it is 1"):
        place_all(campaign, [slab], [oxygen], PlacementSettings(("heuristic",), seed=1, **SMALL))
    with pytest.raises(ValueError, match="the same name"):
        place_all(campaign, [slab, slab], [oxygen], PlacementSettings(("heuristic",), **SMALL))


def test_a_slab_of_no_interest_to_the_adsorbate_is_left_as_it_was(slab: NamedSlab) -> None:
    before = slab.atoms.copy()
    place(slab, load_adsorbate("*CO"), PlacementSettings(**SMALL))
    assert isinstance(slab.atoms, Atoms)
    assert slab.atoms == before
