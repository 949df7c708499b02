"""Preparation from files of every kind to every layout."""

import json
import lzma
from dataclasses import replace
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
import torch
import yaml
from ase import Atoms
from ase.build import fcc111
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from ev2_plugin.data import inventory
from ev2_plugin.data.lmdb import read_lmdb
from ev2_plugin.data.metadata import count_edges, read_metadata
from ev2_plugin.data.prepare import Preparation, prepare
from ev2_plugin.data.recipe import Recipe
from ev2_plugin.data.stored import dataset_files, read_samples

SHARED = Path(__file__).parents[3] / "shared" / "data"
RECIPE = Recipe(
    "tiny.yml",
    {
        "trainer": "ev2_plugin.Trainer",
        "model": {"max_radius": 4.0, "max_neighbors": 12},
        "outputs": {"energy": {}, "forces": {}},
    },
)
ALL_TRAIN = (1.0, 0.0, 0.0)


def labelled(atoms: Atoms, energy: float, forces: np.ndarray) -> Atoms:
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return atoms


def trajectory(element: str, frames: int, seed: int = 0, tags: bool = True) -> list[Atoms]:
    """Small steps of an adsorbate-free slab with EMT labels, lower layer fixed."""
    rng = np.random.default_rng(seed)
    slab = fcc111(element, (2, 2, 2), vacuum=5.0, periodic=True)
    slab.info.clear()
    lower = slab.get_tags() == 2
    slab.set_tags(np.where(lower, 0, 1) if tags else 0)
    slab.set_constraint(FixAtoms(mask=lower))
    made = []
    for _ in range(frames):
        slab.positions[~lower] += rng.normal(scale=0.02, size=(int((~lower).sum()), 3))
        slab.calc = EMT()
        made.append(labelled(slab.copy(), slab.get_potential_energy(), slab.get_forces(apply_constraint=False)))
    return made


def write_extxyz(path: Path, frames: list[Atoms]) -> None:
    """ASE leaves fixed atoms out unless it is told."""
    ase.io.write(path, frames, columns=["symbols", "positions", "tags", "move_mask", "forces"])


def test_energies_that_references_explain_wholly_are_refused(tmp_path):
    ase.io.write(tmp_path / "one.traj", trajectory("Cu", 1))
    ase.io.write(tmp_path / "two.traj", trajectory("Ag", 1))
    with pytest.raises(ValueError, match="do not vary beyond their element references"):
        prepare(wanted((tmp_path / "one.traj", tmp_path / "two.traj"), tmp_path / "out"))


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A folder of trajectories of different lengths, as extxyz, traj and compressed extxyz."""
    folder = tmp_path / "sources"
    (folder / "more").mkdir(parents=True)
    write_extxyz(folder / "a.extxyz", trajectory("Cu", 4, 1) + trajectory("Ag", 3, 2))
    ase.io.write(folder / "b.traj", trajectory("Au", 2, 3))
    write_extxyz(folder / "more" / "c.extxyz.gz", trajectory("Pt", 3, 4))
    (folder / "notes.md").write_text("not a structure")
    return folder


def wanted(sources: Path | tuple[Path, ...], out: Path, **changes: object) -> Preparation:
    given = sources if isinstance(sources, tuple) else (sources,)
    return replace(Preparation(out, given, RECIPE, shares=ALL_TRAIN), **changes)


def test_every_frame_becomes_a_sample(sources, tmp_path):
    out = tmp_path / "out"
    prepare(wanted(sources, out))
    samples = list(read_lmdb(out / "train" / "data.0000.lmdb"))
    assert [(data.sid, data.fid) for data in samples] == [
        *((0, fid) for fid in range(4)),
        *((1, fid) for fid in range(3)),
        *((2, fid) for fid in range(2)),
        *((3, fid) for fid in range(3)),
    ]
    frames = [*trajectory("Cu", 4, 1), *trajectory("Ag", 3, 2), *trajectory("Au", 2, 3), *trajectory("Pt", 3, 4)]
    for data, atoms in zip(samples, frames, strict=True):
        assert data.y == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
        np.testing.assert_allclose(data.force, atoms.get_forces(apply_constraint=False), atol=1e-6)
        np.testing.assert_allclose(data.pos, atoms.positions, atol=1e-5)
        assert data.tags.tolist() == atoms.get_tags().tolist()
        assert data.fixed.sum() == 4
    sizes = read_metadata(out / "train")
    assert sizes.natoms.tolist() == [8] * 12
    assert sizes.neighbors.tolist() == [count_edges(data, 4.0, 12) for data in samples]
    assert sorted(path.name for path in out.iterdir()) == ["manifest.json", "report.json", "run.yml", "train"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_run_file_scales_what_references_leave(sources, tmp_path):
    out = tmp_path / "out"
    prepare(wanted(sources, out))
    run = yaml.safe_load((out / "run.yml").read_text())
    assert run["includes"] == ["tiny.yml"]
    train = run["dataset"]["train"]
    assert (train["format"], train["src"]) == ("lmdb", str(out / "train"))
    assert train["key_mapping"] == {"y": "energy", "force": "forces"}
    assert run["dataset"]["val"] is None
    samples = list(read_lmdb(out / "train" / "data.0000.lmdb"))
    energies = train["transforms"]["element_references"]["energy"]["elements"]
    assert list(energies) == ["Cu", "Ag", "Pt", "Au"]
    numbers = {29: "Cu", 47: "Ag", 78: "Pt", 79: "Au"}
    left = [data.y - sum(energies[numbers[z]] for z in data.atomic_numbers.tolist()) for data in samples]
    normalizer = train["transforms"]["normalizer"]
    assert normalizer["energy"]["mean"] == pytest.approx(np.mean(left), abs=1e-6)
    assert normalizer["energy"]["rmsd"] == pytest.approx(np.std(left, ddof=1), rel=1e-4)
    free = torch.cat([data.force[data.fixed == 0] for data in samples])
    assert normalizer["forces"] == {"mean": 0.0, "rmsd": pytest.approx(float((free**2).mean().sqrt()), rel=1e-5)}


def test_references_of_the_recipe_come_first(sources, tmp_path):
    given = dict.fromkeys(("Cu", "Ag", "Pt", "Au"), 0.25)
    config = {
        **RECIPE.config,
        "dataset": {"train": {"transforms": {"element_references": {"energy": {"elements": given}}}}},
    }
    out = tmp_path / "out"
    prepare(wanted(sources, out, recipe=Recipe("tiny.yml", config)))
    transforms = yaml.safe_load((out / "run.yml").read_text())["dataset"]["train"]["transforms"]
    assert "element_references" not in transforms
    energies = [data.y for data in read_lmdb(out / "train" / "data.0000.lmdb")]
    assert transforms["normalizer"]["energy"]["mean"] == pytest.approx(np.mean(energies) - 8 * 0.25)
    del given["Pt"]
    with pytest.raises(ValueError, match=r"tiny.yml has no element reference for Pt"):
        prepare(wanted(sources, tmp_path / "other", recipe=Recipe("tiny.yml", config)))


def test_a_split_divides_systems(sources, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=r"is in no training structure, so that no element reference can be fitted"):
        prepare(wanted(sources, out, shares=(0.5, 0.25, 0.25)))
    outcome = prepare(wanted(sources, out, shares=(0.5, 0.25, 0.25), fit_references=False))
    sids = {
        split: {data.sid for data in read_lmdb(out / split / "data.0000.lmdb")} for split in ("train", "val", "test")
    }
    assert [len(found) for found in sids.values()] == [2, 1, 1]
    assert set.union(*sids.values()) == {0, 1, 2, 3}
    assert yaml.safe_load((out / "run.yml").read_text())["dataset"]["val"]["src"] == str(out / "val")
    assert any("is in no training structure" in note for note in outcome.report["notes"])


def test_sources_of_their_own_fill_the_splits(sources, tmp_path):
    out = tmp_path / "out"
    others = {"val": (sources / "b.traj",), "test": (sources / "more",)}
    prepare(wanted((sources / "a.extxyz",), out, shares=None, fit_references=False, **others))
    counts = {split: len(list(read_lmdb(out / split / "data.0000.lmdb"))) for split in ("train", "val", "test")}
    assert counts == {"train": 7, "val": 2, "test": 3}


def test_files_hold_no_more_than_they_may(sources, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    prepare(wanted(sources, whole))
    prepare(wanted(sources, cut, samples_per_file=5))
    files = sorted((cut / "train").glob("*.lmdb"))
    assert [len(list(read_lmdb(file))) for file in files] == [5, 5, 2]
    parts = [data.y for file in files for data in read_lmdb(file)]
    assert parts == [data.y for data in read_lmdb(whole / "train" / "data.0000.lmdb")]
    run, run_cut = (yaml.safe_load((out / "run.yml").read_text())["dataset"]["train"] for out in (whole, cut))
    assert run["transforms"]["normalizer"]["energy"]["rmsd"] == pytest.approx(
        run_cut["transforms"]["normalizer"]["energy"]["rmsd"]
    )


def test_ase_databases_are_written_for_the_host(sources, tmp_path):
    from fairchem.core.datasets.ase_datasets import AseDBDataset

    out = tmp_path / "out"
    prepare(wanted(sources, out, layout="aselmdb", samples_per_file=7))
    prepare(wanted(sources, tmp_path / "lmdb"))
    assert sorted(path.name for path in (out / "train").iterdir()) == [
        *("data.0000.aselmdb", "data.0001.aselmdb"),
        "metadata.npz",
    ]
    run = yaml.safe_load((out / "run.yml").read_text())["dataset"]["train"]
    dataset = AseDBDataset({key: run[key] for key in ("format", "src", "a2g_args", "key_mapping")})
    expected = list(read_lmdb(tmp_path / "lmdb" / "train" / "data.0000.lmdb"))
    assert len(dataset) == len(expected) == 12
    for index, data in enumerate(expected):
        read = dataset[index]
        assert (read.sid, read.fid) == (data.sid, data.fid)
        assert float(read.energy) == pytest.approx(data.y)
        torch.testing.assert_close(read.forces, data.force)
        assert read.fixed.tolist() == data.fixed.tolist()
        assert read.tags.tolist() == data.tags.tolist()


def test_oc22_objects_are_what_the_host_asks_for(sources, tmp_path):
    from fairchem.core.datasets.oc22_lmdb_dataset import OC22LmdbDataset

    out = tmp_path / "out"
    prepare(wanted(sources, out, layout="oc22"))
    run = yaml.safe_load((out / "run.yml").read_text())["dataset"]["train"]
    dataset = OC22LmdbDataset({key: run[key] for key in ("src", "key_mapping")})
    sample = dataset[0]
    assert (sample.oc22, sample.nads) == (1, 0)
    assert sample.energy == pytest.approx(trajectory("Cu", 1, 1)[0].get_potential_energy())
    dataset.close_db()


def test_relaxations_become_initial_structures_with_unwrapped_ends(tmp_path):
    frames = trajectory("Cu", 5, 1)
    energy, forces = frames[-1].get_potential_energy(), frames[-1].get_forces(apply_constraint=False)
    frames[-1].positions[-1] += frames[-1].cell[0]  # left through the boundary
    labelled(frames[-1], energy, forces)
    ase.io.write(tmp_path / "relaxation.traj", frames)
    out = tmp_path / "out"
    ase.io.write(tmp_path / "other.traj", trajectory("Ag", 3, 2))
    prepare(wanted((tmp_path / "relaxation.traj", tmp_path / "other.traj"), out, task="is2re", fit_references=False))
    first, second = read_lmdb(out / "train" / "data.0000.lmdb")
    assert first.y_init == pytest.approx(frames[0].get_potential_energy())
    assert first.y_relaxed == pytest.approx(energy)
    assert not {"y", "force", "fid"} & set(first.keys())
    torch.testing.assert_close(first.pos, torch.tensor(frames[0].positions, dtype=torch.float32))
    moved = (first.pos_relaxed - first.pos).norm(dim=-1)
    assert moved[first.fixed == 1].max() == 0
    assert 0 < moved.max() < 0.5
    assert second.y_relaxed == pytest.approx(trajectory("Ag", 3, 2)[-1].get_potential_energy())


def test_relaxations_need_two_frames_and_one_cell(tmp_path):
    ase.io.write(tmp_path / "one.traj", trajectory("Cu", 1))
    with pytest.raises(ValueError, match=r"one.traj, frame 0 is the only frame of its system"):
        prepare(wanted(tmp_path / "one.traj", tmp_path / "out", task="is2re"))
    ase.io.write(tmp_path / "alone.traj", trajectory("Cu", 2))
    with pytest.raises(ValueError, match="the training split has 1 structures"):
        prepare(wanted(tmp_path / "alone.traj", tmp_path / "out1", task="is2re"))
    frames = trajectory("Cu", 2)
    energy, forces = frames[1].get_potential_energy(), frames[1].get_forces(apply_constraint=False)
    frames[1].set_cell(frames[1].cell * 1.01)
    labelled(frames[1], energy, forces)
    ase.io.write(tmp_path / "grown.traj", frames)
    with pytest.raises(ValueError, match=r"grown.traj, frame 1 has another cell than"):
        prepare(wanted(tmp_path / "grown.traj", tmp_path / "out2", task="is2re"))


def write_oc20(folder: Path, frames: list[Atoms], lines: list[str], *, compressed: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_extxyz(folder / "0.extxyz", frames)
    (folder / "0.txt").write_text("\n".join(lines) + "\n")
    if compressed:
        for name in ("0.extxyz", "0.txt"):
            (folder / f"{name}.xz").write_bytes(lzma.compress((folder / name).read_bytes()))
            (folder / name).unlink()


@pytest.mark.parametrize("compressed", [True, False])
def test_the_raw_oc20_download_gives_referenced_energies(tmp_path, compressed):
    frames = [trajectory("Cu", 3, 1)[2], trajectory("Ag", 2, 2)[1], trajectory("Cu", 3, 1)[0]]
    lines = ["random2181546,frame7,-134.5", "random99,frame0,2.25", "random2181546,frame0,-134.5"]
    write_oc20(tmp_path / "raw", frames, lines, compressed=compressed)
    out = tmp_path / "out"
    prepare(wanted(tmp_path / "raw", out))
    samples = list(read_lmdb(out / "train" / "data.0000.lmdb"))
    assert [(data.sid, data.fid) for data in samples] == [(2181546, 7), (99, 0), (2181546, 0)]
    for data, atoms, reference in zip(samples, frames, (-134.5, 2.25, -134.5), strict=True):
        assert data.y == pytest.approx(atoms.get_potential_energy() - reference, abs=1e-6)
    assert "element_references" not in yaml.safe_load((out / "run.yml").read_text())["dataset"]["train"]["transforms"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["random1,frame0,-1.0"], r"0.extxyz has 2 frames and .*0.txt 1 lines"),
        (["random1,frame0,-1.0", "random1,frame1"], r"0.txt, line 2: 'random1,frame1' is not of the form"),
        (["random1,frame0,-1.0", "random1,frame1,x"], r"line 2: the reference energy 'x' is no number"),
        (["random1,frame0,-1.0", "random1,frame0,-1.0"], r"frame 1 repeats sid 1, fid 0 of .*frame 0"),
    ],
)
def test_raw_files_that_disagree_are_refused(tmp_path, lines, message):
    write_oc20(tmp_path / "raw", trajectory("Cu", 2), lines, compressed=False)
    with pytest.raises(ValueError, match=message):
        prepare(wanted(tmp_path / "raw", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_system_spread_over_files_keeps_its_number_and_repeats_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(inventory, "CHUNK_BYTES", 1)
    frames = trajectory("Cu", 2)
    for number, fid in ((0, 0), (1, 4)):
        folder = tmp_path / "raw" / str(number)
        write_oc20(folder, [frames[number]], [f"random7,frame{fid},0.0"], compressed=False)
    out = tmp_path / "out"
    prepare(wanted(tmp_path / "raw", out))
    assert [(data.sid, data.fid) for data in read_lmdb(out / "train" / "data.0000.lmdb")] == [(7, 0), (7, 4)]
    write_oc20(tmp_path / "raw" / "2", [frames[0]], ["random7,frame4,0.0"], compressed=False)
    with pytest.raises(ValueError, match=r"sid 7, fid 4 is in .*1/0.extxyz .*2/0.extxyz"):
        prepare(wanted(tmp_path / "raw", tmp_path / "twice"))


def test_databases_are_cut_between_systems(tmp_path, monkeypatch):
    monkeypatch.setattr(inventory, "ROWS_PER_CHUNK", 3)
    with ase.db.connect(tmp_path / "rows.db") as database:
        for atoms in [*trajectory("Cu", 5, 1), *trajectory("Ag", 1, 2), *trajectory("Cu", 4, 3)]:
            database.write(atoms)
    out = tmp_path / "out"
    assert len(inventory.find_structures([tmp_path / "rows.db"])) == 4
    prepare(wanted(tmp_path / "rows.db", out))
    ids = [(data.sid, data.fid) for data in read_lmdb(out / "train" / "data.0000.lmdb")]
    assert ids == [*((0, fid) for fid in range(5)), (1, 0), *((2, fid) for fid in range(4))]


def test_numbers_in_the_files_are_kept(tmp_path):
    frames = trajectory("Cu", 3)
    for atoms, (sid, fid) in zip(frames, [(12, 3), (12, 5), (4, 0)], strict=True):
        atoms.info.update(sid=sid, fid=fid)
    ase.io.write(tmp_path / "own.extxyz", frames)
    prepare(wanted(tmp_path / "own.extxyz", tmp_path / "out"))
    assert [(data.sid, data.fid) for data in read_lmdb(tmp_path / "out" / "train" / "data.0000.lmdb")] == [
        *((12, 3), (12, 5)),
        (4, 0),
    ]
    ase.io.write(tmp_path / "none.extxyz", trajectory("Ag", 1))
    with pytest.raises(ValueError, match=r"own.extxyz.* no sid|number all"):
        prepare(wanted((tmp_path / "own.extxyz", tmp_path / "none.extxyz"), tmp_path / "mixed"))


def test_molecules_need_no_cell(tmp_path):
    water = Atoms("H2O", [[0.0, 0.76, 0.0], [0.0, -0.76, 0.0], [0.0, 0.0, 0.59]])
    frames = []
    for step in range(3):
        moved = water.copy()
        moved.positions[0, 1] += 0.01 * step
        frames.append(labelled(moved, -14.0 - 0.1 * step, np.zeros((3, 3)) + 0.1))
    ase.io.write(tmp_path / "water.extxyz", frames)
    prepare(wanted(tmp_path / "water.extxyz", tmp_path / "out"))
    data = next(read_lmdb(tmp_path / "out" / "train" / "data.0000.lmdb"))
    assert data.pbc.tolist() == [[False] * 3]
    assert torch.equal(data.cell, torch.eye(3).view(1, 3, 3))
    assert data.tags.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("tags", "from_constraints", "expected", "note"),
    [
        (True, False, [1, 0], "the file's tags"),
        (False, False, [1, 0], "fixed atoms 0, free atoms 1"),
        (True, True, [1, 0], "fixed atoms 0, free atoms 1"),
    ],
)
def test_tags_come_from_the_file_or_from_fixed_atoms(tmp_path, tags, from_constraints, expected, note):
    ase.io.write(tmp_path / "slab.traj", trajectory("Cu", 3, tags=tags))
    outcome = prepare(wanted(tmp_path / "slab.traj", tmp_path / "out", tags_from_constraints=from_constraints))
    data = next(read_lmdb(tmp_path / "out" / "train" / "data.0000.lmdb"))
    assert sorted(set(zip(data.fixed.int().tolist(), data.tags.tolist(), strict=True))) == [(0, 1), (1, 0)]
    assert f"tags of 3 structures: {note}" in outcome.report["notes"]


def spoil(change: str) -> list[Atoms]:
    frames = trajectory("Cu", 3)
    energy, forces = frames[1].get_potential_energy(), frames[1].get_forces(apply_constraint=False)
    if change == "no forces":
        frames[1].calc = SinglePointCalculator(frames[1], energy=energy)
    elif change == "no energy":
        frames[1].calc = None
    elif change == "nan force":
        forces[2, 1] = np.nan
        labelled(frames[1], energy, forces)
    elif change == "huge":
        labelled(frames[1], -1e9, forces)
    elif change == "layer tags":
        frames[1].set_tags([1] * 4 + [3] * 4)
    elif change == "twice":
        frames[1].positions[7] = frames[1].positions[6]
        labelled(frames[1], energy, forces)
    return frames


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("no forces", r"bad.traj, frame 1 has no forces where ASE looks"),
        ("no energy", r"bad.traj, frame 1 has no energy and no forces"),
        ("nan force", r"bad.traj, frame 1: the force on atom 2 is \[.*nan"),
        ("huge", r"bad.traj, frame 1: the energy -1e\+09 is no energy in eV"),
        ("layer tags", r"bad.traj, frame 1: tags \[1, 3\] are not 0 .*--tags constraints"),
        ("twice", r"bad.traj, frame 1: atoms 6 and 7 lie in the same place"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused_by_file_and_frame(tmp_path, change, message):
    ase.io.write(tmp_path / "bad.traj", spoil(change))
    with pytest.raises(ValueError, match=message):
        prepare(wanted(tmp_path / "bad.traj", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_units_that_do_not_fit_are_said(tmp_path):
    frames = [labelled(a, a.get_potential_energy() / 27.2114, a.calc.results["forces"]) for a in trajectory("Cu", 12)]
    ase.io.write(tmp_path / "hartree.traj", frames)
    outcome = prepare(wanted(tmp_path / "hartree.traj", tmp_path / "out"))
    assert any(note.startswith("units: ") and "Hartree" in note for note in outcome.report["notes"])


def test_sources_that_are_no_sources_are_named(tmp_path, sources):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        prepare(wanted(tmp_path / "nowhere", tmp_path / "out"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no structures"):
        prepare(wanted(tmp_path / "empty", tmp_path / "out"))
    (tmp_path / "broken.extxyz").write_text("3\nLattice=\nCu 0 0\n")
    with pytest.raises(ValueError, match=r"broken.extxyz: ASE cannot read frame 0"):
        prepare(wanted(tmp_path / "broken.extxyz", tmp_path / "out"))
    with pytest.raises(ValueError, match=r"a.extxyz comes twice"):
        prepare(wanted((sources, sources / "a.extxyz"), tmp_path / "out2"))


def test_what_is_there_is_left_alone(sources, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").write_text("x")
    with pytest.raises(FileExistsError, match="is no prepared dataset"):
        prepare(wanted(sources, out))
    assert (out / "precious").read_text() == "x"


def test_a_complete_dataset_is_not_made_again(sources, tmp_path):
    out = tmp_path / "out"
    first = prepare(wanted(sources, out))
    before = (out / "train" / "data.0000.lmdb").stat().st_mtime_ns
    assert prepare(wanted(sources, out)) == first
    assert (out / "train" / "data.0000.lmdb").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"begun with seed 0, not 1: remove"):
        prepare(wanted(sources, out, seed=1))


def test_wishes_that_contradict_each_other_are_refused(sources, tmp_path):
    with pytest.raises(ValueError, match="--split divides sources and --val"):
        wanted(sources, tmp_path / "out", val=(sources,))
    with pytest.raises(ValueError, match="say how to divide"):
        wanted(sources, tmp_path / "out", shares=None)
    with pytest.raises(ValueError, match="no is2re dataset of layout aselmdb"):
        wanted(sources, tmp_path / "out", task="is2re", layout="aselmdb")
    host_recipe = Recipe("tiny.yml", {**RECIPE.config, "trainer": "equiformerv2_forces"})
    with pytest.raises(ValueError, match="tiny.yml has equiformerv2_forces: .*--references none"):
        prepare(wanted(sources, tmp_path / "out", recipe=host_recipe))
    small = Recipe("tiny.yml", {**RECIPE.config, "model": {**RECIPE.config["model"], "max_num_elements": 50}})
    with pytest.raises(ValueError, match="below 50 .* Pt, Au"):
        prepare(wanted(sources, tmp_path / "out", recipe=small))


@pytest.mark.slow
def test_several_processes_write_the_same(sources, tmp_path, monkeypatch):
    monkeypatch.setattr(inventory, "CHUNK_BYTES", 1)
    one, two = tmp_path / "one", tmp_path / "two"
    prepare(wanted(sources, one))
    prepare(wanted(sources, two, workers=2))
    for (_, first), (_, second) in zip(
        read_samples(dataset_files(one / "train")), read_samples(dataset_files(two / "train")), strict=True
    ):
        assert (first.sid, first.fid, first.y) == (second.sid, second.fid, second.y)
        assert torch.equal(first.pos, second.pos)


def test_vasp_results_are_read(tmp_path):
    (tmp_path / "vasprun.xml").write_text(VASPRUN)
    frames = list(ase.io.iread(tmp_path / "vasprun.xml", index=":"))
    assert len(frames) == 2
    prepare(wanted(tmp_path / "vasprun.xml", tmp_path / "out", fit_references=False))
    first, second = read_lmdb(tmp_path / "out" / "train" / "data.0000.lmdb")
    assert (first.y, second.y) == (-3.5, -3.75)
    assert first.atomic_numbers.tolist() == [1, 1]
    np.testing.assert_allclose(first.force[0], [0.0, 0.0, 0.5])


def test_the_propane_trajectory_of_the_shared_data(tmp_path):
    path = SHARED / "toy_c3h8_relax.extxyz"
    if not path.is_file():
        pytest.skip("../shared/data/toy_c3h8_relax.extxyz is absent")
    outcome = prepare(wanted(path, tmp_path / "out"))
    assert outcome.report["splits"]["train"]["structures"] == 101
    assert outcome.report["splits"]["train"]["systems"] == 1
    assert not any(note.startswith("units") for note in outcome.report["notes"])
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == outcome.report


VASPRUN = """<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
 <kpoints><varray name="kpointlist"><v>0 0 0</v></varray><varray name="weights"><v>1</v></varray></kpoints>
 <atominfo>
  <atoms>2</atoms>
  <types>1</types>
  <array name="atoms"><set><rc><c>H </c><c>1</c></rc><rc><c>H </c><c>1</c></rc></set></array>
 </atominfo>
 <structure name="initialpos"><crystal><varray name="basis"><v>6 0 0</v><v>0 6 0</v><v>0 0 6</v></varray></crystal>
  <varray name="positions"><v>0 0 0</v><v>0 0 0.13</v></varray></structure>
 {steps}
</modeling>
"""
_STEP = """<calculation>
  <scstep><energy>
   <i name="e_fr_energy">{e}</i><i name="e_wo_entrp">{e}</i><i name="e_0_energy">{e}</i>
  </energy></scstep>
  <structure><crystal><varray name="basis"><v>6 0 0</v><v>0 6 0</v><v>0 0 6</v></varray></crystal>
   <varray name="positions"><v>0 0 0</v><v>0 0 {z}</v></varray></structure>
  <varray name="forces"><v>0 0 0.5</v><v>0 0 -0.5</v></varray>
  <energy><i name="e_fr_energy">{e}</i><i name="e_wo_entrp">{e}</i><i name="e_0_energy">{e}</i></energy>
 </calculation>"""
VASPRUN = VASPRUN.format(steps=_STEP.format(e=-3.5, z=0.13) + _STEP.format(e=-3.75, z=0.125))
