"""`--json` in use: one document on the standard output, whatever goes to the standard error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ase.io
import pytest
import torch
from ase import Atoms
from ase.build import fcc111
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from typer.testing import CliRunner

from ev2_plugin.cli.main import app
from helpers import official_checkpoints as official

pytestmark = pytest.mark.usefixtures("restored_process_state")


def document(*arguments: object) -> Any:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def labelled(seed: int) -> Atoms:
    atoms = fcc111("Cu", (2, 2, 2), vacuum=5.0, periodic=True)
    atoms.info.clear()
    atoms.rattle(0.1, seed=seed)
    atoms.calc = EMT()
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return atoms


def test_data(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "frames.traj", [labelled(seed) for seed in range(4)])
    made = document("data", "prepare", tmp_path / "frames.traj", "--out", tmp_path / "data", "--split", "1,0,0")
    assert made["splits"]["train"]["structures"] == 4
    assert made["command"].startswith("ev2 train ")
    assert made.items() >= json.loads((tmp_path / "data" / "report.json").read_text()).items()
    found = document("data", "inspect", tmp_path / "data" / "train")
    assert (found["structures"], found["elements"], found["is_fit"]) == (4, {"Cu": 4}, True)
    assert found["labels"][found["energy_key"]]["count"] == 4


def test_checkpoints(tmp_path: Path) -> None:
    torch.save(official.oc20().content, tmp_path / "model.pt")
    made = document("convert", tmp_path / "model.pt", tmp_path / "model.safetensors", "--layout", "hydra")
    assert made["layout"] == "hydra"
    assert document("inspect", tmp_path / "model.safetensors")["model"]["layout"] == "hydra"


def test_estimate_and_version() -> None:
    sizes = ("--atoms", 9, "--edges-per-atom", 9, "--predict", "--cpu", "--memory", "1GB")
    found = document("estimate", "demo/s2ef.yml", *sizes)
    assert found["structures"]["mean_atoms"] == 9
    [use] = found["uses"]
    assert use["training"] is False
    assert use["peak"] > use["held"]["total"] > 0
    assert document("version")["fairchem-core"].startswith("1.10")


def test_stages_of_a_campaign(tmp_path: Path) -> None:
    place = ("--slab", "Cu:111:2x2x2", "--adsorbate", "*O", "--min-width", 5, "--mode", "heuristic")
    placed = document("adsorbml", "place", tmp_path / "campaign", *place)
    assert placed["systems"] == 1
    relaxed = document("adsorbml", "relax", tmp_path / "campaign", "--calculator", "emt", "--steps", 3)
    assert (relaxed["done"], relaxed["open_shards"]) == (placed["structures"], [])
    stages = {one["stage"]: one["done"] for one in document("adsorbml", "status", tmp_path / "campaign")}
    assert stages["place"] == stages["relax"] == placed["structures"]
