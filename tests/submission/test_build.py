"""What is built, against what the host's script makes of the same files."""

import json
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from fairchem.core.scripts import make_submission_file

from ev2_plugin.submission.build import RefusedError, build_submission
from ev2_plugin.submission.check import check_submission
from submission.conftest import OC20, OC22, Split, write_predictions

NAMES = {"oc20": OC20, "oc22": OC22}


def host_file(out: Path, dataset: str, sources: Mapping[str, list[Path]], **flags: bool) -> dict[str, np.ndarray]:
    """What the host's script writes."""
    flags = {"is2re_relaxations": False, "hybrid": False, **flags}
    paths = {split: str(paths[0]) for split, paths in sources.items()}
    make_submission_file.main(Namespace(out_path=str(out), dataset=dataset.upper(), **paths, **flags))
    with np.load(out) as file:
        return dict(file)


def built(out: Path, dataset: str, task: str, sources: Mapping[str, list[Path]], **options: Any) -> dict[str, Any]:
    assert build_submission(out, dataset, task, sources, **options).passes
    with np.load(out) as file:
        return dict(file)


def assert_same_bits(mine: Mapping[str, np.ndarray], hosts: Mapping[str, np.ndarray]) -> None:
    """Keys, dtypes and bits; the host keeps an axis of length one on energies."""
    assert list(mine) == list(hosts)
    for key, array in mine.items():
        expected = hosts[key].reshape(-1) if key.endswith("_energy") else hosts[key]
        assert (array.dtype, array.shape) == (expected.dtype, expected.shape), key
        assert array.tobytes() == expected.tobytes(), key


@pytest.mark.parametrize("dataset", ["oc20", "oc22"])
def test_prediction_files(dataset: str, task: str, splits: Mapping[str, Split], tmp_path: Path) -> None:
    sources = write_predictions(tmp_path, splits, NAMES[dataset], task)
    mine = built(tmp_path / "mine.npz", dataset, task, sources)
    assert_same_bits(mine, host_file(tmp_path / "host.npz", dataset, sources))
    test_sets = {name: [splits[name].lmdb] for name in NAMES[dataset]}
    assert check_submission(tmp_path / "mine.npz", dataset, task, test_sets).passes
    assert check_submission(tmp_path / "host.npz", dataset, task, test_sets).passes


def write_trajectories(folder: Path, split: Split, frames: int = 3) -> Path:
    """Relaxations whose last frames have the split's energies."""
    folder.mkdir(parents=True)
    for (sid, *_), energy in zip(split.systems, split.energy[:, 0], strict=True):
        images = []
        for frame in range(frames):
            atoms = Atoms("H", [(0, 0, frame)])
            atoms.calc = SinglePointCalculator(atoms, energy=float(energy) + frames - 1 - frame)
            images.append(atoms)
        ase.io.write(folder / f"{sid}.traj", images)
    return folder


def test_folders_of_trajectories(all_splits: Mapping[bool, Mapping[str, Split]], tmp_path: Path) -> None:
    splits = all_splits[False]
    sources = {name: [write_trajectories(tmp_path / name, splits[name])] for name in OC22}
    mine = built(tmp_path / "mine.npz", "oc22", "is2re", sources)
    hosts = host_file(tmp_path / "host.npz", "oc22", sources, is2re_relaxations=True)
    assert list(mine) == list(hosts)
    for name in OC22:
        # the host takes the files as the file system lists them, here they are sorted
        pairs = [dict(zip(file[f"{name}_ids"], file[f"{name}_energy"], strict=True)) for file in (mine, hosts)]
        assert pairs[0] == pairs[1]
        assert mine[f"{name}_ids"].tolist() == sorted(pairs[1])
        assert mine[f"{name}_energy"].dtype == hosts[f"{name}_energy"].dtype
    test_sets = {name: [splits[name].lmdb.parent] for name in OC22}
    assert check_submission(tmp_path / "mine.npz", "oc22", "is2re", test_sets).passes


def test_hybrid_relaxed_energies(all_splits: Mapping[bool, Mapping[str, Split]], tmp_path: Path) -> None:
    sources = write_predictions(tmp_path, all_splits[True], OC20, "s2ef")
    mine = built(tmp_path / "mine.npz", "oc20", "is2re", sources, hybrid=True)
    hosts = host_file(tmp_path / "host.npz", "oc20", sources, is2re_relaxations=True, hybrid=True)
    assert_same_bits(mine, hosts)
    assert mine["id_ids"].tolist() == ["120", "103", "111", "107"]
    with pytest.raises(ValueError, match="hybrid means relaxed energies"):
        build_submission(tmp_path / "x.npz", "oc20", "s2ef", sources, hybrid=True)


def write_relaxations(folder: Path, split: Split, which: tuple[int, ...] = (2, 0, 3, 1), **changes: Any) -> Path:
    """A relaxation's folder, its structures done in the order `which`."""
    folder.mkdir(parents=True)
    rows, positions = [], b""
    for place in which:
        sid, _, natoms, _ = split.systems[place]
        row = {"id": str(sid), "index": place, "energy": float(split.energy[place, 0]), "natoms": natoms}
        rows.append({**row, "initial_energy": 9.0, "fmax": 0.01, "steps": 4, "converged": place != 3, **changes})
        positions += split.rows[place].astype("<f8").tobytes()
    (folder / "relaxed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "relaxed.positions").write_bytes(positions)
    (folder / "run.json").write_text(json.dumps({"structures": len(which)}))
    return folder


@pytest.mark.parametrize("kind", ["is2re", "is2rs"])
def test_relaxation_folders_come_in_the_order_of_their_source(
    kind: str, all_splits: Mapping[bool, Mapping[str, Split]], tmp_path: Path
) -> None:
    splits = all_splits[False]
    sources = {name: [write_relaxations(tmp_path / name, splits[name])] for name in OC22}
    verdict = build_submission(tmp_path / "a.npz", "oc22", kind, sources)
    assert verdict.passes
    assert verdict.splits[0].remarks == ("1 of 4 relaxations did not converge",)
    with np.load(tmp_path / "a.npz") as file:
        for name in OC22:
            for key, value in splits[name].predictions(kind).items():
                expected = value[:, 0] if key == "energy" else value
                np.testing.assert_array_equal(file[f"{name}_{key}"], expected)
                assert key != "energy" or file[f"{name}_{key}"].dtype == np.float64
    assert check_submission(tmp_path / "a.npz", "oc22", kind, {name: [splits[name].lmdb] for name in OC22}).passes


@pytest.mark.parametrize("kind", ["is2re", "is2rs"])
def test_shards_of_a_split_are_put_in_the_order_of_ids(
    kind: str, all_splits: Mapping[bool, Mapping[str, Split]], tmp_path: Path
) -> None:
    splits = all_splits[False]
    sources = {
        name: [write_relaxations(tmp_path / name / str(part[0]), splits[name], part) for part in ((2, 0), (3, 1))]
        for name in OC22
    }
    mine = built(tmp_path / "a.npz", "oc22", kind, sources)
    whole = {name: [write_relaxations(tmp_path / name / "whole", splits[name])] for name in OC22}
    one = built(tmp_path / "b.npz", "oc22", kind, whole)
    for name in OC22:
        ids = mine[f"{name}_ids"].tolist()
        assert ids == sorted(one[f"{name}_ids"].tolist())
        order = [one[f"{name}_ids"].tolist().index(i) for i in ids]
        if kind == "is2re":
            np.testing.assert_array_equal(mine[f"{name}_energy"], one[f"{name}_energy"][order])
        else:
            mine_pos, pos = (np.split(file[f"{name}_pos"], file[f"{name}_chunk_idx"]) for file in (mine, one))
            for place, block in zip(order, mine_pos, strict=True):
                np.testing.assert_array_equal(block, pos[place])
    twice = {name: [*paths, paths[0]] for name, paths in sources.items()}
    with pytest.raises(RefusedError) as refused:
        build_submission(tmp_path / "c.npz", "oc22", kind, twice)
    assert [fault.kind for fault in refused.value.verdict.splits[0].faults] == ["duplicate ids"]
    assert set(refused.value.verdict.splits[0].faults[0].ids) == {"111", "120"}


def test_faults_are_all_told_and_nothing_is_written(
    all_splits: Mapping[bool, Mapping[str, Split]], tmp_path: Path
) -> None:
    sources = write_predictions(tmp_path, all_splits[True], OC20, "s2ef")
    spoilt = all_splits[True]["id"].predictions("s2ef")
    np.savez(sources["id"][0], **{**spoilt, "forces": spoilt["forces"].astype(np.float16)})
    spoilt = all_splits[True]["ood_cat"].predictions("s2ef")
    spoilt["energy"][2] = np.nan
    np.savez(sources["ood_cat"][0], **spoilt)
    spoilt["energy"][2] = 0.0
    sources["ood_both"] = sources["ood_ads"]
    out = tmp_path / "out.npz"
    out.write_text("an older file")
    with pytest.raises(RefusedError, match="out.npz is not written") as refused:
        build_submission(out, "oc20", "s2ef", sources)
    faults = {split.split: [str(fault) for fault in split.faults] for split in refused.value.verdict.splits}
    assert faults["id"] == [
        "dtype: forces is float16, which rounds an energy of -7.3 eV by up to 0.002 eV; needed float32 or float64"
    ]
    assert faults["ood_ads"] == []
    assert faults["ood_cat"] == ["not finite: energy of 1 structures: 311_12"]
    assert faults["ood_both"] == ["copy: its ids are those of the split ood_ads: one source for both"]
    assert out.read_text() == "an older file"
    assert not list(tmp_path.glob(".*"))


def test_half_precision_may_be_asked_for(all_splits: Mapping[bool, Mapping[str, Split]], tmp_path: Path) -> None:
    sources = write_predictions(tmp_path, all_splits[True], OC22, "s2ef")
    for name in OC22:
        made = all_splits[True][name].predictions("s2ef")
        np.savez(sources[name][0], **{**made, "forces": made["forces"].astype(np.float16)})
    verdict = build_submission(tmp_path / "a.npz", "oc22", "s2ef", sources, allow_float16=True)
    assert verdict.passes
    assert "in half precision" in verdict.splits[0].remarks


def test_keys_of_other_outputs_stay_behind(all_splits: Mapping[bool, Mapping[str, Split]], tmp_path: Path) -> None:
    sources = write_predictions(tmp_path, all_splits[True], OC22, "s2ef")
    with np.load(sources["id"][0]) as file:
        np.savez(sources["id"][0], **dict(file), noise=np.zeros((3, 3)), noise_chunk_idx=np.zeros(3))
    assert not [key for key in built(tmp_path / "a.npz", "oc22", "s2ef", sources) if "noise" in key]


def test_ids_that_cannot_be_those_of_the_task(all_splits: Mapping[bool, Mapping[str, Split]], tmp_path: Path) -> None:
    frames = write_predictions(tmp_path / "frames", all_splits[True], OC22, "s2ef")
    with pytest.raises(RefusedError) as refused:
        build_submission(tmp_path / "a.npz", "oc22", "is2re", frames)
    (fault,) = refused.value.verdict.splits[0].faults
    assert str(fault).startswith("form of ids: 4 are not of the form <sid> of is2re: 120_3, 103_0")


def damage(folder: Path, how: str) -> None:
    lines, positions = folder / "relaxed.jsonl", folder / "relaxed.positions"
    if how == "unfinished":
        (folder / "run.json").write_text('{"structures": 9}')
    elif how == "cut line":
        lines.write_text(lines.read_text()[:-30])
    elif how == "cut positions":
        positions.write_bytes(positions.read_bytes()[:-1])
    else:
        lines.write_text("")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("unfinished", "is not finished: 4 of 9 structures are relaxed"),
        ("cut line", "relaxed.jsonl is damaged"),
        ("cut positions", "relaxed.positions has 431 bytes for 18 atoms: damaged"),
        ("empty", "relaxed.jsonl holds no structure"),
    ],
)
def test_damaged_relaxations(
    how: str, message: str, all_splits: Mapping[bool, Mapping[str, Split]], tmp_path: Path
) -> None:
    sources = {name: [write_relaxations(tmp_path / name, all_splits[False][name])] for name in OC22}
    damage(sources["ood"][0], how)
    with pytest.raises(ValueError, match=message):
        build_submission(tmp_path / "a.npz", "oc22", "is2rs", sources)
    assert not (tmp_path / "a.npz").exists()


def test_trajectories_without_a_relaxed_energy(all_splits: Mapping[bool, Mapping[str, Split]], tmp_path: Path) -> None:
    splits = all_splits[False]
    sources = {name: [write_trajectories(tmp_path / name, splits[name], frames=1)] for name in OC22}
    with pytest.raises(ValueError, match=r"every trajectory has one frame, the first: .*save_full_traj: false"):
        build_submission(tmp_path / "a.npz", "oc22", "is2re", sources)
    sources = {name: [write_trajectories(tmp_path / "full" / name, splits[name])] for name in OC22}
    with pytest.raises(ValueError, match="trajectories serve is2re; is2rs needs"):
        build_submission(tmp_path / "a.npz", "oc22", "is2rs", sources)
    (sources["ood"][0] / "503.traj").write_bytes(b"")
    with pytest.raises(ValueError, match=r"503.traj has no last frame with an energy"):
        build_submission(tmp_path / "a.npz", "oc22", "is2re", sources)
    ase.io.write(sources["ood"][0] / "503.traj", Atoms("H"))
    with pytest.raises(ValueError, match=r"503.traj has no last frame with an energy"):
        build_submission(tmp_path / "a.npz", "oc22", "is2re", sources)


def test_arguments_without_meaning(all_splits: Mapping[bool, Mapping[str, Split]], tmp_path: Path) -> None:
    sources = write_predictions(tmp_path, all_splits[True], OC20, "s2ef")
    out = tmp_path / "a.npz"
    with pytest.raises(ValueError, match="missing: ood; not among them: ood_ads, ood_cat, ood_both"):
        build_submission(out, "oc22", "s2ef", sources)
    with pytest.raises(ValueError, match="task 's2e': choose one of s2ef, is2re, is2rs"):
        build_submission(out, "oc20", "s2e", sources)
    with pytest.raises(ValueError, match="dataset 'oc21': choose one of oc20, oc22"):
        build_submission(out, "oc21", "s2ef", sources)
    with pytest.raises(ValueError, match="must end in .npz"):
        build_submission(tmp_path / "a", "oc20", "s2ef", sources)
    with pytest.raises(FileNotFoundError, match="there is no folder .*nowhere"):
        build_submission(tmp_path / "nowhere" / "a.npz", "oc20", "s2ef", sources)
    with pytest.raises(ValueError, match="relaxations serve is2re and is2rs, not s2ef"):
        build_submission(
            out, "oc20", "s2ef", {**sources, "id": [write_relaxations(tmp_path / "r", all_splits[False]["id"])]}
        )
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ValueError, match="holds neither relaxed.jsonl nor .traj files"):
        build_submission(out, "oc20", "is2re", {**sources, "id": [tmp_path / "nothing"]})
    with pytest.raises(FileNotFoundError, match="there is no file"):
        build_submission(out, "oc20", "s2ef", {**sources, "id": [tmp_path / "no.npz"]})
