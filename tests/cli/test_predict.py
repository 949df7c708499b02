"""`ev2 predict`: files in, predictions out, and their errors where there are labels."""

import json
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from typer.testing import CliRunner, Result

import ev2_plugin
from ev2_plugin.cli.main import app
from ev2_plugin.integration.batch_prediction import Predicted
from ev2_plugin.integration.energy_kind import EnergyKind
from ev2_plugin.integration.label_errors import label_errors
from helpers import official_checkpoints as official
from helpers.structures import crystal, slab

KIND = "adsorption energy, relative to the clean surface and gas-phase references"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, and files with and without labels."""
    made = tmp_path_factory.mktemp("predict")
    torch.save(official.oc20().content, made / "oc20.pt")
    torch.save(official.omat24().content, made / "omat24.pt")
    first, second = slab(), crystal()
    first.set_constraint(FixAtoms(range(4)))
    ase.io.write(made / "two.traj", [first, second])
    ase.io.write(made / "water.xyz", molecule("H2O"))
    return made


def ev2(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["predict", *map(str, arguments)])


@pytest.mark.parametrize("name", ["out.extxyz", "out.traj", "out.jsonl"])
def test_predictions_are_written_in_the_order_of_the_files(name: str, folder: Path, tmp_path: Path) -> None:
    files = [folder / "two.traj", folder / "water.xyz"]
    result = ev2(*files, "--checkpoint", folder / "oc20.pt", "--out", tmp_path / name, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "3 structures predicted" in result.stdout
    assert f"energies: {KIND}" in result.stdout
    assert "MAE" not in result.stdout
    assert "predict: 3 of 3 structures" in result.stderr
    given = [slab(), crystal(), molecule("H2O")]
    expected = ev2_plugin.load(folder / "oc20.pt", "cpu").predict(given)
    if name.endswith("jsonl"):
        lines = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        assert [(one["id"], one["frame"]) for one in lines] == [("two_0", 0), ("two_1", 1), ("water", 0)]
        for line, one in zip(lines, expected, strict=True):
            assert line["energy"] == one.energy
            np.testing.assert_array_equal(line["forces"], one.forces)
            assert line["energy_kind"] == "adsorption"
        return
    written = ase.io.read(tmp_path / name, ":")
    for atoms, start, one in zip(written, given, expected, strict=True):
        assert atoms.get_potential_energy() == pytest.approx(one.energy, abs=1e-6)
        np.testing.assert_allclose(atoms.get_forces(apply_constraint=False), one.forces, atol=1e-7)
        np.testing.assert_allclose(atoms.positions, start.positions, atol=1e-7)
        assert atoms.info["energy_kind"].startswith(KIND)
    assert written[0].constraints[0].index.tolist() == [0, 1, 2, 3]


def test_stress_and_a_choice_of_frames_as_json(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out.extxyz"
    result = ev2(f"{folder}/two.traj@1", "--checkpoint", folder / "omat24.pt", "--out", out, "--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    (row,) = content["predicted"]
    (expected,) = ev2_plugin.load(folder / "omat24.pt").predict([crystal()])
    assert row["energy"] == pytest.approx(expected.energy, abs=1e-5)
    np.testing.assert_allclose(row["stress"], expected.stress, atol=1e-6)
    np.testing.assert_allclose(ase.io.read(out).get_stress(), expected.stress, atol=1e-6)
    assert row["largest_force"] == pytest.approx(np.linalg.norm(expected.forces, axis=1).max(), abs=1e-5)
    assert (row["id"], row["frame"], content["energy_kind"]["name"]) == ("two", 1, "total")
    assert content["errors"]["num_energies"] == 0


def labelled(energies: list[float]) -> tuple[list[Atoms], list[Predicted]]:
    """Structures of 3 to 8 atoms, and predictions that are off by 0.1 eV and 0.2 eV/Å; more on fixed atoms."""
    structures, predicted = [], []
    for number, energy in enumerate(energies):
        pairs, hydrogen = number % 3 + 1, number % 2 + 1
        atoms = Atoms(["C"] * pairs + ["O"] * pairs + ["H"] * hydrogen)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.ones((len(atoms), 3)))
        atoms.set_constraint(FixAtoms([0]))
        off = np.full((len(atoms), 3), 1.2)
        off[0] = 9.0
        structures.append(atoms)
        predicted.append(Predicted(energy - 0.1, off))
    return structures, predicted


def total_energies() -> list[float]:
    return [-10.0 * len(atoms) for atoms in labelled([0.0] * 24)[0]]


ADSORPTION = [0.3 * (-1) ** number for number in range(24)]


@pytest.mark.parametrize(
    ("kind", "energies", "compared", "said"),
    [
        ("total", total_energies(), True, ""),
        ("adsorption", ADSORPTION, True, ""),
        ("referenced", ADSORPTION, True, ""),
        ("total", ADSORPTION, False, "energies are not compared, they are of different kinds"),
        ("adsorption", total_energies(), False, "energies are not compared, they are of different kinds"),
        ("unknown", total_energies(), True, "it is not known whether both energies are of one kind"),
        ("total", total_energies()[:1], True, "one label does not tell its kind of energy"),
    ],
)
def test_energies_are_compared_only_with_those_of_their_kind(
    kind: Any, energies: list[float], compared: bool, said: str
) -> None:
    errors = label_errors(*labelled(energies), EnergyKind(kind, "for a test"))
    assert errors.energy == (pytest.approx(0.1) if compared else None)
    assert errors.note.startswith(said)
    assert bool(errors.note) == bool(said)
    assert errors.forces == pytest.approx(0.2)  # free atoms only
    assert errors.num_energies == errors.num_forces == len(energies)


def test_errors_are_printed_where_there_are_labels(folder: Path, tmp_path: Path) -> None:
    structures = [slab(), crystal()]
    for atoms, one in zip(structures, ev2_plugin.load(folder / "oc20.pt").predict(structures), strict=True):
        atoms.info = {}  # ASE's notes about sites, which its files cannot hold
        atoms.calc = SinglePointCalculator(atoms, energy=one.energy + 0.25, forces=one.forces - 0.125)
    ase.io.write(tmp_path / "labelled.extxyz", structures)
    out = tmp_path / "out.traj"
    result = ev2(tmp_path / "labelled.extxyz", "--checkpoint", folder / "oc20.pt", "--out", out)
    assert result.exit_code == 0, result.output
    assert "energy MAE against the labels of 2 structures: 250.0 meV" in result.stdout
    assert "structures, components on free atoms: 125.0 meV/Å" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["two.traj", "--checkpoint", "oc20.pt", "--out", "out.cif"], "predictions are written as .extxyz"),
        (["two.traj", "--checkpoint", "nowhere.pt"], "nowhere.pt: no such checkpoint"),
        (["nowhere.xyz", "--checkpoint", "oc20.pt"], "nowhere.xyz: no such file"),
        (["two.traj", "--checkpoint", "omat24.pt", "odd.xyz"], "structure odd: Fe: no element reference"),
        (["two.traj", "--checkpoint", "oc20.pt", "heavy.xyz"], "structure heavy: atom 1 has atomic number 90"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(
    arguments: list[str], message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    ase.io.write("odd.xyz", Atoms("Fe"))
    ase.io.write("heavy.xyz", Atoms("HTh", positions=[[0, 0, 0], [0, 0, 2]]))
    result = ev2(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert not Path("predicted.extxyz").exists()
