"""A campaign's folder: what was asked for, structures by name, slabs, systems, what is imported, how far all is."""

from __future__ import annotations

import io
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixBondLength

from ev2_plugin.adsorbml.campaign import Campaign
from ev2_plugin.adsorbml.disturbed_emt import DisturbedEMT
from ev2_plugin.adsorbml.importing import import_folder
from ev2_plugin.adsorbml.settings_file import read_settings, settle
from ev2_plugin.adsorbml.shards import count_shards, energy_kind, mark_done, shard_folder, shard_placements
from ev2_plugin.adsorbml.slabs import load_slab
from ev2_plugin.adsorbml.status import campaign_status
from ev2_plugin.adsorbml.structure_files import (
    PlacementSource,
    extended_xyz,
    list_placements,
    name_placements,
    write_structures,
)
from ev2_plugin.adsorbml.surface_system import read_clean_slab, read_placements, read_reference_energy
from ev2_plugin.adsorbml.systems import (
    calculated_references,
    oc20_references,
    relax,
    set_references,
    tabulated_references,
    write_system,
)
from helpers.adslabs import adsorbed, tagged_slab
from helpers.campaigns import relaxed, write_placements, write_relaxations

OXYGEN = Atoms("O")
NUMBER_LIKE = ("6_1134_23", "007", "1e5", "T")


def fixed_slab() -> Atoms:
    slab = tagged_slab(size=(2, 2, 3))
    slab.set_constraint(FixAtoms(mask=slab.get_tags() == 0))
    return slab


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    """Three structures in each of two systems whose names ASE takes for numbers."""
    made = Campaign(tmp_path)
    slab = fixed_slab()
    for system in ("6_1134_23", "1e5"):
        initial = {config: adsorbed(slab, OXYGEN, atom=8 + index) for index, config in enumerate("abc")}
        write_placements(made, system, slab, OXYGEN, initial)
    return made


def test_what_was_asked_for_stays_until_somebody_asks_otherwise(tmp_path: Path) -> None:
    defaults = {"steps": 300, "model": None}
    assert settle(tmp_path, "relax", {"model": "a"}, defaults) == {"steps": 300, "model": "a"}
    assert settle(tmp_path, "relax", {"steps": None}, defaults) == {"steps": 300, "model": "a"}
    settle(tmp_path, "filter", {}, {"k": 5})
    assert read_settings(tmp_path) == {"relax": {"steps": 300, "model": "a"}, "filter": {"k": 5}}
    with pytest.raises(ValueError, match="'relax' was begun with steps 300, now it is 20"):
        settle(tmp_path, "relax", {"steps": 20}, defaults)
    assert settle(tmp_path, "relax", {"model": "b"}, defaults, movable=("model",))["model"] == "b"


def test_damaged_settings_are_named(tmp_path: Path) -> None:
    (tmp_path / "campaign.json").write_text("{")
    with pytest.raises(ValueError, match=r"campaign\.json is no JSON"):
        read_settings(tmp_path)


def test_structures_come_back_with_names_tags_and_fixed_atoms(tmp_path: Path) -> None:
    campaign, slab = Campaign(tmp_path), fixed_slab()
    structures = [adsorbed(slab, OXYGEN, atom=8 + index) for index in range(4)]
    structures[1].set_constraint()
    for system in NUMBER_LIKE:
        write_structures(campaign.placements / f"{system}.extxyz", name_placements(structures, system, NUMBER_LIKE))
    found = list_placements(campaign)
    assert [(one.system, one.config) for one in found] == [(s, c) for s in sorted(NUMBER_LIKE) for c in NUMBER_LIKE]
    source = PlacementSource(found)
    for index, placement in enumerate(found):
        expected = structures[index % 4]
        atoms, single = placement.read(), source[index]
        assert atoms.info == {"system": placement.system, "config": placement.config}
        assert single.ids == (f"{placement.system}.{placement.config}",)
        np.testing.assert_allclose(atoms.positions, expected.positions, atol=1e-8)
        assert atoms.get_tags().tolist() == expected.get_tags().tolist()
        assert single.fixed.tolist() == [bool(expected.constraints) and tag == 0 for tag in expected.get_tags()]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace(" config=b", ""), "frame 1: its second line has no config=NAME"),
        (lambda text: text.replace("config=b", "config=a"), "configuration 'a' stands there twice"),
        (lambda text: text[: text.rindex("Cu ")].rstrip() + "\n", "frame 2: ends before its 13 atoms"),
        (lambda text: "x" + text, "frame 0: b'x13.n' should be the number of atoms"),
    ],
)
def test_damaged_placements_are_named(campaign: Campaign, change: object, message: str) -> None:
    path = campaign.placements / "1e5.extxyz"
    path.write_text(change(path.read_text()))  # type: ignore[operator]
    with pytest.raises(ValueError, match=message):
        list_placements(campaign)


def test_configurations_need_names_that_files_and_readers_bear(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="share a name: a, a"):
        name_placements([OXYGEN, OXYGEN], "s", ["a", "a"])
    with pytest.raises(ValueError, match="letters, digits"):
        name_placements([OXYGEN], "s", ["a b"])
    with pytest.raises(ValueError, match="no placements"):
        list_placements(Campaign(tmp_path))


def test_a_slab_built_by_name_has_its_top_layer_free() -> None:
    slab = load_slab("Cu:111:3x2x4:a=3.7")
    expected = fcc111("Cu", (3, 2, 4), a=3.7, vacuum=10.0)
    assert slab.name == "Cu-111-3x2x4-a3.7"
    np.testing.assert_array_equal(slab.atoms.positions, expected.positions)
    assert slab.atoms.get_tags().tolist() == [0] * 18 + [1] * 6
    assert slab.atoms.constraints[0].index.tolist() == list(range(18))
    assert slab.atoms.pbc.all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Cu:112:3x3x4", r"facets of Cu \(fcc\) that can be built by name: 111, 100, 110, 211"),
        ("Xx:111:3x3x4", r"facets of Xx \(unknown\) that can be built by name: none"),
        ("no-such-file.cif", "neither a file nor a name like Cu:111:3x3x4"),
    ],
)
def test_unknown_slabs_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_slab(text)


def slab_file(folder: Path, tags: object, fixed: int = 0, constraint: object = None) -> str:
    slab = fcc111("Cu", (2, 2, 3), vacuum=8.0, periodic=True)
    slab.set_tags(tags)
    slab.set_constraint(constraint or (FixAtoms(range(fixed)) if fixed else None))
    ase.io.write(folder / "slab.traj", slab)
    return str(folder / "slab.traj")


def test_the_surface_of_a_slab_comes_from_tags_constraints_or_height(tmp_path: Path) -> None:
    layers = [3] * 4 + [2] * 4 + [1] * 4
    two_free, one_free = [0] * 4 + [1] * 8, [0] * 8 + [1] * 4
    assert load_slab(slab_file(tmp_path, two_free)).atoms.get_tags().tolist() == two_free
    assert load_slab(slab_file(tmp_path, two_free)).atoms.constraints[0].index.tolist() == [0, 1, 2, 3]
    assert load_slab(slab_file(tmp_path, 0, fixed=4)).atoms.get_tags().tolist() == two_free
    assert load_slab(slab_file(tmp_path, layers, fixed=4), "constraints").atoms.get_tags().tolist() == two_free
    assert load_slab(slab_file(tmp_path, layers), "height").atoms.get_tags().tolist() == one_free
    both = load_slab(slab_file(tmp_path, one_free, fixed=4)).atoms
    assert both.get_tags().tolist() == one_free
    assert both.constraints[0].index.tolist() == [0, 1, 2, 3]  # what the file fixes, and no more


@pytest.mark.parametrize(
    ("tags", "fixed", "tagging", "message"),
    [
        ([3] * 4 + [2] * 4 + [1] * 4, 4, "file", "Tags that number layers are ASE's"),
        (0, 0, "file", "no atom is at the surface"),
        (1, 0, "file", "no atom is fixed or below the surface"),
        (0, 12, "constraints", "no atom is at the surface"),
        (0, 4, "depth", "choose one of file, constraints, height"),
    ],
)
def test_slabs_without_a_surface_are_refused(
    tmp_path: Path, tags: object, fixed: int, tagging: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load_slab(slab_file(tmp_path, tags, fixed), tagging)


def test_slabs_with_other_constraints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="FixAtoms only"):
        load_slab(slab_file(tmp_path, 0, constraint=FixBondLength(0, 1)))


def test_reference_energies_come_from_calculators_tables_or_oc20(campaign: Campaign, tmp_path: Path) -> None:
    path = campaign.systems / "1e5.extxyz"
    before = read_clean_slab(path)
    assert read_reference_energy(path) is None
    assert set_references(campaign, oc20_references) == 2
    assert read_reference_energy(path) is None
    (tmp_path / "slabs.csv").write_text("system,slab_energy,adsorbate_energy\n1e5,-20.5,\n6_1134_23,-30.5,-1\n")
    set_references(campaign, tabulated_references(tmp_path / "slabs.csv"))
    assert read_reference_energy(path) == pytest.approx(-20.5 - 7.204)
    assert read_reference_energy(campaign.systems / "6_1134_23.extxyz") == pytest.approx(-31.5)
    set_references(campaign, calculated_references("emt", {}))
    slab, oxygen = fixed_slab(), OXYGEN.copy()
    slab.calc, oxygen.calc = EMT(), EMT()
    energy = slab.get_potential_energy() + oxygen.get_potential_energy()
    assert read_reference_energy(path) == pytest.approx(energy, abs=1e-6)
    np.testing.assert_array_equal(read_clean_slab(path).relaxed, before.relaxed)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("name,slab_energy\n1e5,1\n", "should have the columns system"),
        ("system,slab_energy\n1e5,x\n", "1e5: slab_energy is 'x', not a finite number"),
        ("system,slab_energy\n1e5,1\n", "no line for system 6_1134_23"),
    ],
)
def test_poor_tables_of_references_are_refused(campaign: Campaign, tmp_path: Path, table: str, message: str) -> None:
    (tmp_path / "table.csv").write_text(table)
    with pytest.raises(ValueError, match=message):
        set_references(campaign, tabulated_references(tmp_path / "table.csv"))


def test_oc20_has_no_reference_of_a_metal() -> None:
    with pytest.raises(ValueError, match="no reference energy for Cu, S"):
        oc20_references("s", fixed_slab(), Atoms("SCuO"))


def test_slabs_relax_to_the_minimum(tmp_path: Path) -> None:
    slab = fixed_slab()
    moved = relax(slab, "emt", {})
    moved.calc = EMT()
    assert np.abs(moved.get_forces()).max() < 0.02
    np.testing.assert_array_equal(moved.positions[:8], slab.positions[:8])


def test_the_stand_in_for_a_model_has_exact_forces() -> None:
    atoms = adsorbed(fixed_slab(), Atoms("CO", [[0, 0, 0], [0.4, 0.2, 1.15]]))
    atoms.calc = DisturbedEMT(amplitude=0.3, waves=((2, 1, 1), (0, 3, 1)))
    forces, plain = atoms.get_forces(apply_constraint=False), atoms.copy()
    plain.calc = EMT()
    phases = 2 * np.pi * atoms.get_scaled_positions()[-2:] @ np.array([[2, 1, 1], [0, 3, 1]]).T
    assert atoms.get_potential_energy() - plain.get_potential_energy() == pytest.approx(0.3 * np.cos(phases).sum())
    for atom, axis in ((-1, 0), (-2, 2), (-1, 1), (10, 0)):
        energies = []
        for step in (1e-4, -1e-4):
            probe = atoms.copy()
            probe.positions[atom, axis] += step
            probe.calc = DisturbedEMT(amplitude=0.3, waves=((2, 1, 1), (0, 3, 1)))
            energies.append(probe.get_potential_energy())
        assert forces[atom, axis] == pytest.approx((energies[1] - energies[0]) / 2e-4, abs=1e-5)
    alone = Atoms("O", tags=[2], calculator=DisturbedEMT())
    assert alone.get_potential_energy() == Atoms("O", calculator=EMT()).get_potential_energy()


def test_shards_share_the_structures_out(campaign: Campaign) -> None:
    placements = list_placements(campaign)
    parts = [shard_placements(placements, shard, 4) for shard in range(4)]
    assert [one for part in parts for one in part] == placements
    assert {len(part) for part in parts} == {1, 2}
    with pytest.raises(ValueError, match="no shard 4: they are 0 to 3"):
        shard_placements(placements, 4, 4)


def test_the_kind_of_energies_is_known_when_all_shards_ended(campaign: Campaign) -> None:
    with pytest.raises(ValueError, match="shards to do: all"):
        energy_kind(campaign)
    settle(campaign.folder, "relax", {"shards": 2}, {"shards": 1})
    mark_done(shard_folder(campaign, 1), 3, "total")
    write_relaxations(shard_folder(campaign, 0), [relaxed("1e5", "a", np.zeros((13, 3)))])
    assert [(one.done, one.total, one.complete) for one in count_shards(campaign)] == [(1, 3, False), (0, 3, True)]
    with pytest.raises(ValueError, match=r"shards to do: 0 \(1 of 3\)"):
        energy_kind(campaign)
    mark_done(shard_folder(campaign, 0), 3, "adsorption")
    with pytest.raises(ValueError, match="different kinds: adsorption, total"):
        energy_kind(campaign)
    mark_done(shard_folder(campaign, 0), 3, "total")
    assert energy_kind(campaign) == "total"


def write_dense(folder: Path, surface: str = "{}_surface.traj") -> None:
    """Structures as OC20-Dense has them: relaxations, the first frame of each as placed."""
    for system in ("6_1134_23", "7_2_1"):
        (folder / system).mkdir(parents=True)
        slab, end = fixed_slab(), fixed_slab()
        end.positions[-4:, 2] += 0.1
        end.set_tags(0)
        ase.io.write(folder / system / surface.format(system), [slab, end])
        for index, config in enumerate(("rand11", "heur3")):
            start = adsorbed(slab, OXYGEN, atom=8 + index)
            final = start.copy()
            final.positions[-1, 2] -= 0.3
            ase.io.write(folder / system / f"{config}.traj", [start, final])


@pytest.mark.parametrize("surface", ["{}_surface.traj", "surface.traj"])
def test_oc20_dense_can_be_imported(tmp_path: Path, surface: str) -> None:
    write_dense(tmp_path / "dense", surface)
    campaign = Campaign(tmp_path / "campaign")
    assert import_folder(campaign, tmp_path / "dense") == (2, 4)
    assert import_folder(campaign, tmp_path / "dense") == (0, 0)
    placements = [one for one in list_placements(campaign) if one.system == "6_1134_23"]
    slab = read_clean_slab(campaign.systems / "6_1134_23.extxyz")
    assert slab.relaxed[-1, 2] - slab.placed_on[-1, 2] == pytest.approx(0.1)
    assert [one.config for one in placements] == ["heur3", "rand11"]
    read = read_placements(placements[0].path, "6_1134_23", ["heur3", "rand11"], slab)
    np.testing.assert_allclose(read.positions[0], adsorbed(fixed_slab(), OXYGEN, atom=9).positions, atol=1e-7)
    frames = ase.io.read(campaign.systems / "6_1134_23.extxyz", ":")
    assert frames[0].get_tags().tolist() == fixed_slab().get_tags().tolist()
    assert str(frames[1].symbols) == "O"


def test_folders_without_systems_surfaces_or_tags_are_refused(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path / "campaign")
    (tmp_path / "dense").mkdir()
    with pytest.raises(ValueError, match="no sub-folders"):
        import_folder(campaign, tmp_path / "dense")
    write_dense(tmp_path / "dense")
    bare = adsorbed(fixed_slab(), OXYGEN)
    bare.set_tags(0)
    ase.io.write(tmp_path / "dense" / "7_2_1" / "heur3.traj", bare)
    with pytest.raises(ValueError, match=r"heur3.traj: tags are \[0\]"):
        import_folder(campaign, tmp_path / "dense")
    (tmp_path / "dense" / "7_2_1" / "7_2_1_surface.traj").unlink()
    with pytest.raises(ValueError, match="should hold surface"):
        import_folder(campaign, tmp_path / "dense")


def test_status_counts_what_there_is(campaign: Campaign) -> None:
    lines = {one.stage: one for one in campaign_status(campaign)}
    assert (lines["place"].done, lines["place"].note) == (6, "2 systems")
    assert (lines["relax"].done, lines["relax"].total, lines["relax"].note) == (0, None, "not begun")
    settle(campaign.folder, "relax", {"shards": 2}, {"shards": 1})
    write_relaxations(shard_folder(campaign, 0), [relaxed("1e5", "a", np.zeros((13, 3)))])
    campaign.relaxed.write_text("system,config\n1e5,a\n")
    lines = {one.stage: one for one in campaign_status(campaign)}
    assert (lines["relax"].done, lines["relax"].total, lines["relax"].note) == (1, 6, "2 shards, to do: 0, 1")
    assert lines["filter"].done == 1
    with pytest.raises(ValueError, match="no campaign"):
        campaign_status(Campaign(campaign.folder / "other"))


def test_systems_are_written_with_their_references_only(tmp_path: Path) -> None:
    slab = fixed_slab()
    slab.info = {"slab_energy": 1.5, "note": "x"}
    write_system(tmp_path / "s.extxyz", slab, OXYGEN)
    frames = ase.io.read(io.StringIO((tmp_path / "s.extxyz").read_text()), ":", format="extxyz")
    assert [frame.info for frame in frames] == [{"slab_energy": 1.5}, {}]
    assert extended_xyz(frames) == (tmp_path / "s.extxyz").read_text()
