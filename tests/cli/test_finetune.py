"""`ev2 finetune` as a user has it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from typer.testing import CliRunner, Result

from ev2_plugin.cli.main import app
from ev2_plugin.integration.calculator import Calculator
from ev2_plugin.storage.checkpoint_file import read_checkpoint
from helpers import tiny_s2ef
from helpers.trainers import config, make_trainer

pytestmark = pytest.mark.usefixtures("restored_process_state")

HELPER = Path(__file__).parents[1] / "helpers/kill_and_restart.py"
ENERGY_MEAN, ENERGY_RMSD = 7.0, 1.0
TOTAL = -3.7
"""eV per atom, added to make total energies of EMT's."""


def ev2(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def slab(seed: int, per_atom: float) -> Atoms:
    """Rattled copper, lower layer fixed, with EMT's labels moved by an energy per atom."""
    made = fcc111("Cu", size=(2, 2, 2), vacuum=6.0, periodic=True)
    made.positions += np.random.default_rng(seed).normal(scale=0.1, size=made.positions.shape)
    made.set_constraint(FixAtoms(indices=[atom.index for atom in made if atom.tag == 2]))
    made.calc = EMT()
    energy, forces = made.get_potential_energy() + per_atom * len(made), made.get_forces(apply_constraint=False)
    made.calc = SinglePointCalculator(made, energy=energy, forces=forces)
    made.set_tags(0)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`slabs/` and `total/`, a system a file, and a checkpoint of adsorption energies."""
    folder = tmp_path_factory.mktemp("finetune")
    for name, per_atom in (("slabs", 0.0), ("total", TOTAL)):
        (folder / name).mkdir()
        for seed in range(12):
            ase.io.write(folder / name / f"{seed}.traj", slab(seed, per_atom))
    dataset = tiny_s2ef.write_dataset("lmdb", folder / "trained_on")
    scale = {"energy": {"mean": ENERGY_MEAN, "rmsd": ENERGY_RMSD}, "forces": {"mean": 0.0, "rmsd": 0.7}}
    made = config({**dataset, "transforms": {"normalizer": scale}})
    made["task"]["energy"] = "adsorption"
    Path(make_trainer(made, folder / "trained").save()).rename(folder / "model.pt")
    return folder


Tune = Callable[..., Result]


@pytest.fixture
def tune(folder: Path, tmp_path: Path) -> Tune:
    """Tune into `tmp_path/OUT`."""

    def run(source: str, *options: object, out: str = "tuned") -> Result:
        flags = ["--checkpoint", folder / "model.pt", "--device", "cpu", "--epochs", 2, "--split", "0.5,0.25,0.25"]
        return ev2("finetune", folder / source, *flags, "--out", tmp_path / out, *options)

    return run


def test_total_energies_for_a_model_of_adsorption_energies_are_refused_with_numbers_and_the_way_out(
    tune: Tune,
) -> None:
    refused = tune("total")
    assert refused.exit_code == 1
    sentence = refused.output.strip().splitlines()[-1]
    assert sentence.startswith("error: the energies do not fit")
    for part in ("'adsorption'", "total energies", "eV per atom", "--references fit", "--references keep"):
        assert part in sentence
    assert "Traceback" not in refused.output


@pytest.mark.slow
def test_they_are_fitted_if_asked_for_in_the_same_folder(tune: Tune, tmp_path: Path) -> None:
    assert tune("total").exit_code == 1
    asked = tune("total", "--references", "fit", "--dry-run", "--json")
    assert asked.exit_code == 0, asked.output
    plan = json.loads(asked.stdout)
    assert plan["zero_shot"]["per_atom"] > 1.0 > plan["zero_shot"]["per_atom_with_fitted_references"]
    assert plan["energies"]["references"]["Cu"] == pytest.approx(TOTAL, abs=0.5)
    run = yaml.safe_load((tmp_path / "tuned/run.yml").read_text())
    assert run["task"]["energy"] == "total"
    assert run["dataset"]["train"]["transforms"]["normalizer"]["energy"] == {"mean": ENERGY_MEAN, "rmsd": ENERGY_RMSD}
    assert not (tmp_path / "tuned/checkpoints").exists()


@pytest.mark.slow
def test_everything_from_files_to_a_tuned_model_that_predicts(tune: Tune, folder: Path, tmp_path: Path) -> None:
    done = tune("slabs", "--lr", 2e-3, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found == json.loads((tmp_path / "tuned/finetune.json").read_text())
    errors = found["errors"]
    assert list(errors) == ["before", "after"]
    assert found["energies"]["fitted"] is False
    assert found["held_out"] == {"split": "test", "structures": 3}
    assert found["trained"] == {**found["trained"], "steps": found["steps"], "epochs": 2, "ended_early": False}
    for name in ("curves.png", "curves.svg", "report.html", "data/train", "start.pt"):
        assert (tmp_path / "tuned" / name).exists(), name
    # the metrics are those of a calculator on the held-out structures
    held = [one for one in folder.glob("slabs/*.traj")]
    atoms = [ase.io.read(path) for path in held]
    labels = {round(one.get_potential_energy(), 6): one for one in atoms}
    missed = []
    for _, data in _samples(tmp_path / "tuned/data/test"):
        one = labels[round(float(data.y), 6)]
        label = one.get_potential_energy()
        one.calc = Calculator(tmp_path / "tuned/tuned.pt", device="cpu")
        missed.append(abs(one.get_potential_energy() - label))
    assert errors["after"]["energy_mae"] == pytest.approx(np.mean(missed), abs=1e-4)
    table = tune("slabs", "--lr", 2e-3)
    assert table.exit_code == 0
    assert "tuned model:" in table.output


def _samples(folder: Path) -> Any:
    from ev2_plugin.data.stored import dataset_files, read_samples

    return read_samples(dataset_files(folder))


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(tune: Tune, folder: Path, tmp_path: Path) -> None:
    assert tune("slabs", "--epochs", 12, out="whole").exit_code == 0
    flags = ["--checkpoint", folder / "model.pt", "--device", "cpu", "--epochs", 12, "--split", "0.5,0.25,0.25"]
    command = ["finetune", folder / "slabs", *flags, "--out", tmp_path / "killed"]
    watched = tmp_path / "killed/checkpoints/finetune/checkpoint.pt"
    killed = subprocess.run(
        [sys.executable, str(HELPER), "0", "3", str(watched), *map(str, command)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert killed.returncode == 0, killed.stdout + killed.stderr
    assert "killed 3" in killed.stdout
    whole, again = (read_checkpoint(tmp_path / name / "tuned.pt")["state_dict"] for name in ("whole", "killed"))
    assert all(torch.equal(value, again[name]) for name, value in whole.items())
    results = [json.loads((tmp_path / name / "finetune.json").read_text()) for name in ("whole", "killed")]
    assert results[0]["errors"] == results[1]["errors"]


@pytest.mark.slow
def test_the_backbone_keeps_its_weights_to_the_bit(tune: Tune, tmp_path: Path) -> None:
    done = tune("slabs", "--freeze", "backbone")
    assert done.exit_code == 0, done.output
    start, tuned = (read_checkpoint(tmp_path / f"tuned/{name}.pt")["state_dict"] for name in ("start", "tuned"))
    assert list(start) == list(tuned)
    moved = {name.split(".")[0] for name, value in start.items() if not torch.equal(value, tuned[name])}
    assert moved == {"energy_block", "force_block"}


@pytest.mark.slow
def test_patience_ends_a_training_that_gains_nothing(tune: Tune, tmp_path: Path) -> None:
    done = tune("slabs", "--patience", 2, "--epochs", 30, "--lr", 0.5, "--json")
    assert done.exit_code == 0, done.output
    trained = json.loads(done.stdout)["trained"]
    assert trained["ended_early"]
    rows = [
        json.loads(line) for line in next(tmp_path.glob("tuned/logs/*/finetune/metrics.jsonl")).read_text().splitlines()
    ]
    errors = [row["values"]["forces_mae"] for row in rows if row["split"] == "val"]
    assert len(errors) == trained["epochs"]
    assert min(errors) == errors[-3] == trained["best_validation"]["forces_mae"]


@pytest.mark.slow
@pytest.mark.parametrize("files", [("oxides.db",)])
def test_real_oxides_can_be_tuned_on(files: tuple[str, ...], folder: Path, tmp_path: Path) -> None:
    shared = Path(__file__).parents[2] / "../shared/data"
    if not shared.is_dir():
        pytest.skip(f"{shared} is not there")
    flags = ["--checkpoint", folder / "model.pt", "--device", "cpu", "--epochs", 1, "--references", "fit"]
    flags += ["--split", "0.5,0.1,0.4"]
    done = ev2("finetune", shared / files[0], *flags, "--out", tmp_path / "oxides", "--json")
    assert done.exit_code == 0, done.output
    errors = json.loads(done.stdout)["errors"]
    assert list(errors) == ["as it is", "before", "after"]
    assert errors["before"]["energy_mae_per_atom"] < errors["as it is"]["energy_mae_per_atom"] / 5
