"""`ev2 relax`: files in, relaxed structures out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import add_adsorbate, fcc111
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixBondLength
from ase.optimize import LBFGS
from typer.testing import CliRunner, Result

from ev2_plugin.cli.main import app
from ev2_plugin.integration import relax_files
from ev2_plugin.potential.ase_calculator import CalculatorPotential
from ev2_plugin.relax import folder
from helpers.relaxation_sets import config, starts, write_set
from helpers.trainers import make_trainer

pytestmark = pytest.mark.usefixtures("restored_process_state")

FMAX = 0.03


def slab(seed: int, size: tuple[int, int, int] = (2, 2, 2)) -> Atoms:
    """An oxygen atom on copper, the lower layer fixed."""
    made = fcc111("Cu", size, vacuum=5.0)
    add_adsorbate(made, "O", 1.2 + 0.2 * seed, "fcc")
    made.rattle(0.05, seed=seed)
    made.set_constraint(FixAtoms(mask=made.get_tags() == 2))
    made.info = {"note": f"number {seed}", "site": {"x": 1}}
    return made


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Two frames in one file, one in another."""
    ase.io.write(tmp_path / "two.traj", [slab(0), slab(1, (1, 2, 2))])
    ase.io.write(tmp_path / "one.extxyz", slab(2), columns=["symbols", "positions", "tags", "move_mask"])
    return [str(tmp_path / "two.traj"), str(tmp_path / "one.extxyz")]


def ev2(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["relax", *map(str, arguments)])


def emt(*arguments: object) -> Result:
    return ev2("--calculator", "emt", "--fmax", FMAX, *arguments)


@pytest.mark.parametrize("name", ["relaxed.extxyz", "relaxed.traj"])
def test_structures_end_in_the_minima_of_ase(files: list[str], tmp_path: Path, name: str) -> None:
    result = emt(*files, "--out", tmp_path / name, "--trajectories", tmp_path / "frames", "--fmax", 0.002)
    assert result.exit_code == 0, result.output
    assert "3 of 3 structures converged" in result.stdout
    found = ase.io.read(tmp_path / name, ":")
    for atoms, start, identifier in zip(
        found, [slab(0), slab(1, (1, 2, 2)), slab(2)], ["two_0", "two_1", "one"], strict=True
    ):
        assert atoms.info["id"] == identifier
        assert atoms.info["converged"]
        assert atoms.info["energy_kind"] == "total energy by EMT"
        start.calc = EMT()
        initial = start.get_potential_energy()
        with LBFGS(start, logfile=None) as optimizer:
            optimizer.run(fmax=0.002)
        assert atoms.get_potential_energy() == pytest.approx(start.get_potential_energy(), abs=1e-5)
        np.testing.assert_allclose(atoms.positions, start.positions, atol=5e-3)
        np.testing.assert_allclose(
            atoms.positions[atoms.get_tags() == 2], start.positions[start.get_tags() == 2], atol=1e-7
        )
        assert atoms.info["initial_energy"] == pytest.approx(initial)
        assert atoms.constraints[0].index.tolist() == start.constraints[0].index.tolist()
        assert (atoms.get_tags() == start.get_tags()).all()
        assert (atoms.pbc == start.pbc).all()
        forces = atoms.get_forces(apply_constraint=True)
        assert np.linalg.norm(forces, axis=1).max() == pytest.approx(atoms.info["fmax"], abs=1e-6)
        frames = ase.io.read(tmp_path / "frames" / f"{identifier}.traj", ":")
        assert len(frames) == atoms.info["steps"] + 1
        np.testing.assert_allclose(frames[-1].positions, atoms.positions, atol=1e-8)
        np.testing.assert_allclose(frames[-1].get_forces(), forces, atol=1e-7)


def test_an_index_chooses_frames(files: list[str], tmp_path: Path) -> None:
    result = emt(f"{files[0]}@1", f"{files[1]}@:", "--out", tmp_path / "out.traj", "--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert [(row["id"], row["frame"]) for row in content["relaxed"]] == [("two", 1), ("one", 0)]
    assert [len(atoms) for atoms in ase.io.read(tmp_path / "out.traj", ":")] == [5, 9]


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        ase.io.write(tmp_path / name / "POSCAR", slab(0))
    result = emt(tmp_path / "a" / "POSCAR", tmp_path / "b" / "POSCAR", "--out", tmp_path / "out.traj", "--json")
    assert result.exit_code == 0, result.output
    assert [row["id"] for row in json.loads(result.stdout)["relaxed"]] == ["a_POSCAR", "b_POSCAR"]


def test_what_does_not_converge_is_said(files: list[str], tmp_path: Path) -> None:
    result = emt(*files, "--out", tmp_path / "out.extxyz", "--steps", 2, "--optimizer", "fire")
    assert result.exit_code == 3, result.output
    assert "0 of 3 structures converged" in result.stdout
    assert [line.split("│")[-2].strip() for line in result.stdout.splitlines() if "│" in line] == ["no"] * 3
    assert [atoms.info["steps"] for atoms in ase.io.read(tmp_path / "out.extxyz", ":")] == [2, 2, 2]


def test_a_call_that_was_stopped_goes_on(files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert emt(*files, "--out", tmp_path / "whole.traj").exit_code == 0
    calls = []

    class Stops(CalculatorPotential):
        def __call__(self, structures: Any) -> Any:
            calls.append(len(structures))
            if len(calls) == 12:
                raise KeyboardInterrupt
            return super().__call__(structures)

    arguments = (*files, "--out", tmp_path / "stopped.traj")
    monkeypatch.setattr(relax_files, "CalculatorPotential", Stops)
    monkeypatch.setattr(folder, "SHARE_OF_TIME", float("inf"))  # a snapshot at every evaluation
    assert emt(*arguments).exit_code == 130
    assert not (tmp_path / "stopped.traj").exists()
    assert emt(*arguments).exit_code == 0
    together = len(calls)
    calls.clear()
    assert emt(*arguments).exit_code == 0
    assert calls == []  # all of it was there
    for mine, theirs in zip(
        ase.io.read(tmp_path / "stopped.traj", ":"), ase.io.read(tmp_path / "whole.traj", ":"), strict=True
    ):
        np.testing.assert_allclose(mine.positions, theirs.positions, atol=1e-10)  # EMT keeps neighbours between calls
        assert mine.info["steps"] == theirs.info["steps"]
    longest = max(atoms.info["steps"] for atoms in ase.io.read(tmp_path / "whole.traj", ":"))
    assert together == longest + 2  # one evaluation for each step, the start, and what was stopped

    result = emt(*arguments, "--steps", 7)
    assert result.exit_code == 1
    assert "max_steps: 300 there, 7 now" in result.stderr


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with random weights."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    make_trainer(config(write_set(folder / "set")), folder).save(checkpoint_file="checkpoint.pt", training_state=True)
    (path,) = folder.glob("checkpoints/*/checkpoint.pt")
    return path


def test_a_model_relaxes_as_run_relaxations_does(checkpoint: Path, tmp_path: Path) -> None:
    from helpers.relaxation_sets import SIDS

    torch.manual_seed(0)
    trainer = make_trainer(config(write_set(tmp_path / "set"), relaxation_steps=5), tmp_path)
    trainer.run_relaxations()
    with np.load(tmp_path / "results" / "test" / "relaxed_positions.npz") as file:
        expected = dict(zip(SIDS, np.split(file["pos"], file["chunk_idx"]), strict=True))

    ase.io.write(tmp_path / "starts.traj", starts())
    arguments = ("--fmax", 0.018, "--steps", 5, "--batch-edges", 300, "--device", "cpu")
    out = tmp_path / "out.traj"
    result = ev2(tmp_path / "starts.traj", "--checkpoint", checkpoint, "--out", out, *arguments)
    assert result.exit_code in (0, 3), result.output
    assert "energy of a kind that the checkpoint does not tell" in result.stdout
    for atoms, positions in zip(ase.io.read(out, ":"), expected.values(), strict=True):
        np.testing.assert_allclose(atoms.positions, positions, atol=1e-3)  # ours are not rounded to float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --checkpoint FILE, or --calculator emt instead"),
        (["--calculator", "emt", "--checkpoint", "model.pt"], "give --checkpoint FILE, or --calculator emt instead"),
        (["--calculator", "dft"], "calculator 'dft': choose emt"),
        (["--checkpoint", "nowhere.pt"], "nowhere.pt"),
        (["--calculator", "emt", "--fmax", "-1"], "fmax must be a force"),
        (["--calculator", "emt", "--out", "relaxed.cif"], "not as '.cif'"),
        (["--calculator", "emt", "nowhere.xyz"], "nowhere.xyz: no such file"),
        (["--calculator", "emt", "{one}"], "ids belong to more than one structure"),
        (["--calculator", "emt", "{one}@x"], "'x' is no index of frames"),
        (["--calculator", "emt", "{bond}@7"], "bond.traj@7: it has 1 frames, counted from 0"),
        (["--calculator", "emt", "{text}"], "ASE cannot read it"),
        (["--calculator", "emt", "{bond}"], "atoms can be fixed by FixAtoms only, not by FixBondLength"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    arguments: list[str], message: str, files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.xyz").write_text("no structure")
    bound = slab(0)
    bound.set_constraint(FixBondLength(0, 1))
    ase.io.write(tmp_path / "bond.traj", bound)
    places = {"one": files[1], "text": "text.xyz", "bond": "bond.traj"}
    result = ev2(files[1], *(argument.format(**places) for argument in arguments))
    assert result.exit_code == 1, result.output
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "relaxed.extxyz").exists()
    assert not (tmp_path / "relaxed.extxyz.work").exists()  # nothing ran


def test_lost_trajectories_are_named(files: list[str], tmp_path: Path) -> None:
    call = (files[1], "--calculator", "emt", "--steps", 2, "--out", tmp_path / "out.traj")
    assert ev2(*call, "--trajectories", tmp_path / "all").exit_code == 3
    for lost in (tmp_path / "all").iterdir():
        lost.unlink()
    result = ev2(*call, "--trajectories", tmp_path / "all")
    assert result.exit_code == 1, result.output
    assert "lacks the trajectories of 1 structures that were relaxed before" in result.stderr
