"""`ev2 evaluate` on files as the trainers write them."""

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from typer.testing import CliRunner, Result

from ev2_plugin.cli.main import app
from ev2_plugin.data.lmdb import write_lmdb
from ev2_plugin.data.structures import structure_to_data

NUMBER = 6
ENERGY_ERROR, FORCE_ERROR, SHIFT = 0.01, 0.02, 0.1  # eV, eV/Å, Å


def ev2(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def metrics_of(result: Result) -> dict[str, float]:
    assert result.exit_code == 0, result.output
    return {name: one["value"] for name, one in json.loads(result.stdout)["metrics"].items()}


def slabs() -> list[Atoms]:
    """Copper with oxygen or hydrogen, the lower layer fixed, none of them relaxed."""
    rng = np.random.default_rng(0)
    made = []
    for index in range(NUMBER):
        slab = fcc111("Cu", (2, 2, 2), vacuum=5.0, periodic=True)
        slab.append("OH"[index % 2])
        slab.positions[-1] = slab.positions[7] + [0.1, 0.2, 1.6]
        slab.set_tags([0] * 4 + [1] * 4 + [2])
        slab.set_constraint(FixAtoms(range(4)))
        slab.positions[4:] += rng.normal(scale=0.05, size=(5, 3))
        made.append(slab)
    return made


@pytest.fixture
def s2ef(tmp_path: Path) -> tuple[Path, Path]:
    """A dataset and predictions of it that are off by constants, in the order of the strings."""
    structures = []
    for index, slab in enumerate(slabs()):
        slab.calc = EMT()
        energy, forces = slab.get_potential_energy(), slab.get_forces(apply_constraint=False)
        structures.append(structure_to_data(slab, sid=8 + index // 2, fid=index % 2, energy=energy, forces=forces))
    write_lmdb(tmp_path / "s2ef" / "data.lmdb", structures)
    ordered = sorted(structures, key=lambda data: f"{data.sid}_{data.fid}")
    assert ordered != structures
    np.savez(
        tmp_path / "ocp_predictions.npz",
        ids=[f"{data.sid}_{data.fid}" for data in ordered],
        energy=np.array([[data.y + ENERGY_ERROR] for data in ordered]),
        forces=np.concatenate([data.force[4:].numpy() - FORCE_ERROR for data in ordered]),
        chunk_idx=5 * np.arange(1, NUMBER),
    )
    return tmp_path / "s2ef", tmp_path / "ocp_predictions.npz"


@pytest.fixture
def is2re(tmp_path: Path) -> tuple[Path, Path]:
    """A dataset and a results folder of relaxations that ended a constant shift from the reference."""
    structures = []
    for sid, slab in enumerate(slabs()):
        data = structure_to_data(slab, sid=sid)
        data.y_relaxed, data.pos_relaxed = float(sid), data.pos + 0.0
        structures.append(data)
    write_lmdb(tmp_path / "is2re.lmdb", structures)
    results = tmp_path / "results"
    results.mkdir()
    ids = [str(data.sid) for data in structures]
    positions = np.concatenate([data.pos.numpy() + [SHIFT, 0.0, 0.0] for data in structures])
    np.savez(results / "relaxed_positions.npz", ids=ids, pos=positions, chunk_idx=9 * np.arange(1, NUMBER))
    np.savez(results / "relaxed_energies.npz", ids=ids, energy=np.arange(NUMBER) + ENERGY_ERROR)
    return tmp_path / "is2re.lmdb", results


def test_predictions(s2ef: tuple[Path, Path], tmp_path: Path) -> None:
    labels, predictions = s2ef
    out = tmp_path / "out"
    result = ev2("predictions", predictions, "--against", labels, "--out", out)
    assert result.exit_code == 0, result.output
    assert "6 predictions of 3 systems" in result.stdout
    content = json.loads((out / "metrics.json").read_text())
    values = {name: one["value"] for name, one in content["metrics"].items()}
    assert values["energy_mae"] == pytest.approx(ENERGY_ERROR, abs=1e-6)
    assert values["forces_mae"] == pytest.approx(FORCE_ERROR, abs=1e-6)
    assert values["energy_forces_within_threshold"] == 1.0
    assert content["metrics"]["forces_mae"]["unit"] == "eV/Å"
    assert content["metrics"]["forces_mae"]["count"] == NUMBER * 5 * 3
    assert set(content["by"]["adsorbate"]) == {"O", "H"}
    assert content["inputs"]["files"] == [str(predictions)]
    with np.load(out / "per_structure.npz") as arrays:
        assert arrays["ids"].tolist() == ["8_0", "8_1", "9_0", "9_1", "10_0", "10_1"]
        np.testing.assert_allclose(arrays["largest_force_error"], FORCE_ERROR, atol=1e-6)
    figures = {path.name for path in out.glob("*.png")}
    assert figures == {"energy_parity.png", "force_parity.png", "by_element.png", "by_adsorbate.png"}
    assert metrics_of(ev2("predictions", predictions, "--against", labels, "--json")) == values


def test_energies_alone(is2re: tuple[Path, Path], tmp_path: Path) -> None:
    labels, results = is2re
    energies = results / "relaxed_energies.npz"
    result = ev2("predictions", energies, "--against", labels, "--out", tmp_path / "out", "--json")
    assert metrics_of(result) == {"energy_mae": pytest.approx(ENERGY_ERROR), "energy_within_threshold": 1.0}
    assert not (tmp_path / "out" / "force_parity.png").exists()


def test_relaxations_with_forces(is2re: tuple[Path, Path], tmp_path: Path) -> None:
    labels, results = is2re
    out = tmp_path / "out"
    result = ev2("relaxations", results, "--against", labels, "--forces", "emt", "--out", out, "--json")
    values = metrics_of(result)
    assert values["energy_mae"] == pytest.approx(ENERGY_ERROR)
    assert values["distance"] == pytest.approx(SHIFT, abs=1e-6)
    assert values["average_distance_within_threshold"] == pytest.approx(399 / 490, abs=1.1 / 490)
    largest = []
    for slab in slabs():
        slab.calc = EMT()
        largest.append(np.linalg.norm(slab.get_forces()[4:], axis=1).max())
    assert values["largest_force"] == pytest.approx(np.mean(largest), rel=1e-4)
    figures = {path.name for path in out.glob("*.png")}
    assert figures == {
        *("energy_parity.png", "distance_thresholds.png", "force_thresholds.png"),
        *("by_element.png", "by_adsorbate.png"),
    }
    assert json.loads((out / "metrics.json").read_text())["inputs"]["force_oracle"] == {
        "path": "ase.calculators.emt.EMT",
        "arguments": {},
    }
    by_path = ev2("relaxations", results, "--against", labels, "--calculator", "ase.calculators.emt.EMT", "--json")
    assert metrics_of(by_path) == values


def test_positions_alone_or_with_a_file_of_energies(is2re: tuple[Path, Path]) -> None:
    labels, results = is2re
    positions, energies = results / "relaxed_positions.npz", results / "relaxed_energies.npz"
    values = metrics_of(ev2("relaxations", positions, "--against", labels, "--json"))
    assert set(values) == {"distance", "average_distance_within_threshold"}
    values = metrics_of(ev2("relaxations", positions, "--against", labels, "--energies", energies, "--json"))
    assert values["energy_mae"] == pytest.approx(ENERGY_ERROR)


def test_folders_of_several_processes(is2re: tuple[Path, Path], tmp_path: Path) -> None:
    """Half of the systems in each of two folders of `ev2_plugin.relax`."""
    from ev2_plugin.data.lmdb import read_lmdb
    from ev2_plugin.evaluation.force_oracle import relaxed_structure
    from ev2_plugin.potential.ase_calculator import CalculatorPotential
    from ev2_plugin.potential.structures import to_atoms
    from ev2_plugin.relax.folder import relax_in_folder
    from ev2_plugin.relax.settings import Settings
    from ev2_plugin.relax.source import AtomsSource

    labels, _ = is2re
    structures = list(read_lmdb(labels))
    folders = []
    for start in range(2):
        half = structures[start::2]
        atoms = [to_atoms(relaxed_structure(data, data.pos.numpy()))[0] for data in half]
        source = AtomsSource(atoms, [str(data.sid) for data in half])
        folders.append(tmp_path / f"relax-{start}")
        relax_in_folder(source, CalculatorPotential(EMT()), Settings(max_steps=2), folders[-1])
    result = ev2("relaxations", *folders, "--against", labels, "--json")
    assert metrics_of(result)["distance"] > 0
    assert json.loads(result.stdout)["structures"] == NUMBER
    for sources, said in (
        ([folders[0]], "3 structures have no relaxation or no relaxed energy: 1, 3, 5"),
        ([folders[0], folders[0]], "holds systems of the sources before it: 0, 2, 4"),
    ):
        result = ev2("relaxations", *sources, "--against", labels)
        assert result.exit_code == 1
        assert said in result.stderr


def test_mistakes_are_one_sentence(s2ef: tuple[Path, Path], is2re: tuple[Path, Path], tmp_path: Path) -> None:
    (frames, predictions), (labels, results) = s2ef, is2re
    (tmp_path / "empty").mkdir()
    energies = results / "relaxed_energies.npz"
    for arguments, said in {
        ("predictions", predictions, "--against", tmp_path / "none"): "none does not exist",
        ("predictions", tmp_path / "none.npz", "--against", frames): "none.npz",
        ("predictions", predictions, "--against", labels): "6 structures have no prediction: 0, 1, 2, 3, 4, 5",
        ("relaxations", results, "--against", frames): "3 identifiers belong to several structures of",
        ("relaxations", tmp_path / "empty", "--against", labels): "holds neither relaxed.jsonl nor",
        ("relaxations", results, "--against", labels, "--energies", energies): "hold relaxed energies already",
        ("relaxations", results, "--against", labels, "--calculator", "no.Such"): "No module named 'no'",
        ("relaxations", results, "--against", labels, "--forces", "emt", "--calculator", "a.B"): "give one",
        ("relaxations", results, "--against", labels, "--calculator-args", '{"a": 1}'): "goes with --calculator",
        ("relaxations", results, "--against", labels, "--calculator-args", "[1]"): "needs an object",
        ("relaxations", results, "--against", labels, "--calculator-args", "{"): "no JSON",
    }.items():
        result = ev2(*arguments)
        assert result.exit_code == 1, result.output
        assert result.stderr.strip().splitlines()[-1].startswith("error: ")
        assert said in " ".join(result.stderr.split()), result.stderr
        assert "Traceback" not in result.output
