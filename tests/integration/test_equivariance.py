"""The equivariance report: its figures, and the causes it names, on models whose faults are known."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import fcc111, molecule
from ase.calculators.emt import EMT
from typer.testing import CliRunner

from ev2_plugin.cli.main import app
from ev2_plugin.integration import backbone, equivariance
from ev2_plugin.integration.energy_kind import EnergyKind
from ev2_plugin.integration.equivariance import EquivarianceReport, Finding, equivariance_report, variant
from ev2_plugin.integration.equivariance_table import equivariance_lines, equivariance_table
from ev2_plugin.integration.error_causes import Steps
from ev2_plugin.integration.loaded_model import LoadedModel
from ev2_plugin.integration.loading import build_model
from ev2_plugin.integration.model_outputs import ModelOutputs, with_parts
from ev2_plugin.integration.potential import potential_of
from ev2_plugin.integration.probe_structures import named_structures, probe_structures
from ev2_plugin.integration.symmetry_operations import different_edges, operations, random_rotation
from ev2_plugin.potential.structures import from_atoms, to_atoms
from helpers import official_checkpoints as official
from helpers import tiny_s2ef
from helpers.models import fill_by_name
from helpers.structures import slab

GRID = {**tiny_s2ef.FLAT_MODEL, "max_neighbors": 40}
GATE = {**GRID, "use_gate_act": True}
OUTPUTS = {"energy": {"level": "system"}, "forces": {"level": "atom"}}


@pytest.fixture(autouse=True)
def few_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equivariance, "ROTATIONS", 2)
    monkeypatch.setattr(equivariance, "OTHERS", 1)


def model_of(settings: dict[str, Any]) -> LoadedModel:
    model = fill_by_name(build_model(copy.deepcopy(settings))).eval()
    outputs = ModelOutputs(with_parts(OUTPUTS), {}, {})
    return LoadedModel(Path("none"), potential_of(model, outputs, EnergyKind("unknown", "")), {"model": settings})


def ideal_slab() -> Atoms:
    return fcc111("Cu", (2, 2, 2), vacuum=4.0, periodic=True)


def report_of(settings: dict[str, Any], *structures: Atoms, **options: Any) -> EquivarianceReport:
    named = [from_atoms([one], [f"structure {number}"]) for number, one in enumerate(structures or [slab()])]
    return equivariance_report(model_of(settings), named, **options)


def finding(report: EquivarianceReport, symmetry: str) -> Finding:
    return next(one for one in report.findings if one.symmetry == symmetry)


@pytest.fixture(scope="module")
def on_grid() -> EquivarianceReport:
    """Of the model with coarse grids, on a slab and a molecule."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(equivariance, "ROTATIONS", 2)
        patch.setattr(equivariance, "OTHERS", 1)
        return report_of(GRID, slab(), molecule("H2O"))


@pytest.mark.parametrize("atoms", [slab(), molecule("CH3CH2OH")], ids=["slab", "molecule"])
def test_physics_has_these_symmetries(atoms: Atoms) -> None:
    atoms = atoms.copy()
    atoms.rattle(0.1, seed=1)

    def emt(some: Atoms) -> dict[str, torch.Tensor]:
        some.calc = EMT()
        stress = some.get_stress(voigt=False) if some.pbc.any() else np.zeros((3, 3))
        found = {"energy": [[some.get_potential_energy()]], "forces": some.get_forces(), "stress": stress.reshape(1, 9)}
        return {name: torch.as_tensor(np.asarray(value)) for name, value in found.items()}

    drawn = operations(from_atoms([atoms], ["a"]), 0, 2, 2)
    assert ("periodic images" in drawn) == atoms.pbc.any()
    assert len(drawn) == 4 + atoms.pbc.any()
    for some in drawn.values():
        for operation in some:
            (changed,) = to_atoms(operation.structure(from_atoms([atoms], ["a"])))
            expected, found = operation.outputs(emt(atoms)), emt(changed)
            for name in expected:
                torch.testing.assert_close(found[name], expected[name], rtol=1e-8, atol=1e-8)
            assert not np.allclose(changed.positions, atoms.positions)


def test_operations_are_those_of_their_seed() -> None:
    first, again, other = (operations(from_atoms([slab()], ["a"]), seed, 1, 1) for seed in (1, 1, 2))
    assert torch.equal(first["rotation"][0].matrix, again["rotation"][0].matrix)
    assert not torch.equal(first["rotation"][0].matrix, other["rotation"][0].matrix)
    turn = random_rotation(torch.Generator().manual_seed(3))
    torch.testing.assert_close(turn @ turn.T, torch.eye(3, dtype=torch.float64))
    assert float(torch.linalg.det(turn)) == pytest.approx(1.0)


def test_edges_are_carried_along() -> None:
    potential = model_of(GRID).potential
    structure = from_atoms([slab()], ["a"])
    edges = potential.edges(structure)
    for some in operations(structure, 0, 1, 1).values():
        for operation in some:
            assert different_edges(operation.edges(edges), potential.edges(operation.structure(structure))) == 0
            assert operation.edges(edges).receivers.diff().min() >= 0
    fewer = model_of({**GRID, "max_neighbors": 11}).potential.edges(structure)
    assert different_edges(edges, fewer) == len(edges.senders) - len(fewer.senders) > 0
    assert different_edges(fewer, edges) == 0


def test_figures_are_those_of_a_plain_computation(on_grid: EquivarianceReport) -> None:
    model, report = model_of(GRID), on_grid
    energies, errors, forces = [], [], []
    for one in (slab(), molecule("H2O")):
        (before,) = model.predict([one])
        forces += list(np.linalg.norm(before.forces, axis=1))
        for operation in operations(from_atoms([one], ["a"]), 0, 2, 1)["rotation"]:
            matrix = operation.matrix.numpy()
            turned = one.copy()
            turned.set_cell(one.cell.array @ matrix.T)
            turned.positions = one.positions @ matrix.T
            (after,) = model.predict([turned])
            energies.append(abs(after.energy - before.energy))
            errors += list(np.linalg.norm(after.forces - before.forces @ matrix.T, axis=1))
    found = finding(report, "rotation").measured.outputs
    assert found["energy"].mean == pytest.approx(1000 * np.mean(energies), rel=1e-3)
    assert found["energy"].largest == pytest.approx(1000 * np.max(energies), rel=1e-3)
    assert found["forces"].mean == pytest.approx(1000 * np.mean(errors), rel=1e-3)
    assert found["forces"].largest == pytest.approx(1000 * np.max(errors), rel=1e-3)
    assert report.mean_force == pytest.approx(1000 * np.mean(forces), rel=1e-6)
    assert found["forces"].relative == pytest.approx(found["forces"].mean / report.mean_force, rel=1e-6)
    assert report.structures == ("structure 0", "structure 1")


def test_a_coarse_grid_is_the_cause_of_a_models_rotation_error(on_grid: EquivarianceReport) -> None:
    report = on_grid
    found = finding(report, "rotation")
    assert found.cause == "grid resolution"
    assert report.grid_resolution == (8, 8)
    assert found.measured.outputs["forces"].relative > 1e-3
    assert list(found.steps.finer_grids)[0] == 16
    assert found.steps.left < 0.1 * found.measured.forces
    assert f"{found.steps.finer_grids[16]:.2g} meV/Å at 16" in found.advice
    finer = finding(report_of({**GRID, "grid_resolution": 16}, slab(), molecule("H2O")), "rotation")
    assert finer.measured.forces == pytest.approx(found.steps.finer_grids[16], rel=0.2)
    assert report.repeatable
    assert not report.faults


def test_rounding_is_the_cause_where_there_are_no_grids() -> None:
    report = report_of(GATE, molecule("H2O"))
    assert report.grid_resolution is None
    for symmetry in ("rotation", "permutation"):
        found = finding(report, symmetry)
        assert found.cause == "precision"
        assert 1e-9 < found.measured.outputs["forces"].relative < 1e-4
        assert found.float64.outputs["forces"].relative < 1e-10
    assert finding(report, "improper rotation").measured.outputs["forces"].relative > 0.01
    assert not report.faults
    half = report_of({**GATE, "precision": "bf16"}, molecule("H2O"))
    assert finding(half, "rotation").advice.startswith("precision: highest instead of bf16")


@pytest.mark.slow
def test_a_limit_among_equal_distances_is_the_cause_on_ideal_slabs() -> None:
    report = report_of({**GATE, "max_neighbors": 10}, ideal_slab())
    found = finding(report, "rotation")
    assert found.cause == "neighbour limit"
    assert found.measured.other_edges > 0
    assert found.advice.startswith("enforce_max_neighbors_strictly: false")
    kept = report_of({**GATE, "max_neighbors": 10, "enforce_max_neighbors_strictly": False}, ideal_slab())
    assert finding(kept, "rotation").measured.other_edges == 0
    assert finding(kept, "rotation").cause != "neighbour limit"


def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field along x: it stays where it is when structures turn."""
    forward = backbone.EquiformerV2.forward

    def with_field(self: Any, data: Any) -> Any:
        out = forward(self, data)
        field = torch.zeros_like(out["forces"])
        field[:, 0] = 0.5
        return {**out, "forces": out["forces"] + field}

    monkeypatch.setattr(backbone.EquiformerV2, "forward", with_field)


def test_a_model_that_is_not_equivariant_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch)
    report = report_of(GRID, molecule("H2O"))
    assert finding(report, "rotation").cause == "model"
    assert finding(report, "rotation").steps.left > 100
    assert len(finding(report, "rotation").steps.finer_grids) == 2  # both were tried
    assert finding(report, "translation").cause in ("none", "precision")
    assert report.faults == ["rotation is broken by the model itself"]
    assert "fault: rotation is broken by the model itself" in equivariance_lines(report)


@pytest.mark.slow
def test_frames_drawn_at_random_are_not_repeatable() -> None:
    report = report_of({**GRID, "gauge_seed": 1}, molecule("H2O"))
    assert not report.repeatable
    assert report.faults == ["two calls do not give the same bits"]
    assert finding(report, "rotation").cause == "grid resolution"  # on which the frames' turn depends


@pytest.mark.parametrize(
    ("steps", "cause"),
    [
        (Steps(1e-7, 0.0, 0.0, {}, 1000.0), "none"),
        (Steps(5.0, 1.0, 0.9, {16: 0.1}, 1000.0), "neighbour limit"),
        (Steps(5.0, 5.0, 0.9, {16: 0.1}, 1000.0), "precision"),
        (Steps(5.0, 5.0, 5.1, {16: 2.0, 32: 0.1}, 1000.0), "grid resolution"),
        (Steps(5.0, 5.0, 5.1, {16: 5.0, 32: 5.2}, 1000.0), "model"),
        (Steps(5.0, 5.0, 5.0, {}, 1000.0), "model"),
    ],
)
def test_the_largest_part_is_the_cause(steps: Steps, cause: str) -> None:
    assert steps.cause == cause


def test_the_same_weights_in_another_precision_and_on_another_grid() -> None:
    for settings in (GRID, tiny_s2ef.HYDRA_MODEL):
        model = model_of(settings)
        structure = from_atoms([slab()], ["a"])
        exact, finer = variant(model, torch.float64), variant(model, torch.float64, 20)
        assert finer.backbone.config.grid_resolution == 20
        here, there, on_grid = (one(structure).forces for one in (model.potential, exact, finer))
        assert 0 < (here - there).abs().max() < 1e-4
        assert 1e-4 < (on_grid - there).abs().max() < 0.3 * there.abs().max()


def test_a_molecule_alone_has_no_periodic_images_and_progress_is_told() -> None:
    seen: list[tuple[int, int]] = []
    report = report_of(GATE, molecule("H2O"), on_progress=lambda done, total: seen.append((done, total)))
    assert [one.symmetry for one in report.findings] == [
        *("rotation", "translation", "permutation", "batch", "improper rotation")
    ]
    *each, (done, total) = seen
    assert [done for done, _ in each] == list(range(1, len(each) + 1))
    assert all(done <= total for done, total in each)
    assert done == total == len(each)
    with pytest.raises(ValueError, match="there are no structures"):
        equivariance_report(model_of(GATE), [])


def test_of_the_hosts_models_the_causes_are_not_told_apart() -> None:
    schnet = {"name": "schnet", "hidden_channels": 16, "num_filters": 16, "cutoff": 4.0, "otf_graph": True}
    report = report_of(schnet, slab(), molecule("H2O"))
    assert all(one.cause == "not told apart" and one.float64 is None for one in report.findings if one.claimed)
    assert finding(report, "rotation").measured.outputs["forces"].relative < 1e-4
    assert finding(report, "rotation").measured.other_edges is None
    assert equivariance_table(report).row_count == 7


@pytest.mark.parametrize(
    ("elements", "metal", "expected"),
    [
        ((), "Cu", "OC"),
        (("H", "C", "N", "O", "F"), "H", "OC"),
        (("C", "O", "Na", "Cl", "Cu"), "Cu", "OC"),
        (("Pt",), "Pt", "Pt"),
        (("Fe", "O"), "O", "O2"),
    ],
)
def test_built_in_structures_have_elements_that_the_model_knows(
    elements: tuple[str, ...], metal: str, expected: str
) -> None:
    found = dict(probe_structures(elements))
    adslab = found["adsorbate on slab"]
    assert set(adslab.get_chemical_symbols()[:12]) == {metal}
    assert adslab[12:].get_chemical_formula("reduce") == expected
    for atoms in found.values():
        assert not elements or set(atoms.get_chemical_symbols()) <= set(elements)
    assert ("molecule" in found) == (elements != ("Pt",))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "omat24.pt"
    torch.save(official.omat24().content, path)
    return path


def ev2(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["inspect", *map(str, arguments), "--equivariance"])


@pytest.mark.slow
def test_command_on_structures_of_a_file(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    ase.io.write(tmp_path / "some.traj", [molecule("CO2"), molecule("CO")])
    result = ev2(checkpoint, "--structures", f"{tmp_path}/some.traj@1", "--device", "cpu")
    assert result.exit_code == 0, result.output
    for part in ("errors on 1 structures: some", "rotation", "not claimed", "same bits", "stress [meV/Å³]"):
        assert part in result.stdout
    assert "stress: rotations change it by" in result.stdout
    assert "measure:" in result.stderr
    result = ev2(checkpoint, "--structures", tmp_path / "nowhere.xyz")
    assert result.exit_code == 1
    assert "nowhere.xyz: no such file" in result.stderr


def test_command_says_no_where_the_model_is_at_fault(on_grid: EquivarianceReport, monkeypatch: Any) -> None:
    monkeypatch.setattr("ev2_plugin.cli.inspect._measure", lambda *given: replace(on_grid, repeatable=False))
    result = ev2("any.pt")
    assert result.exit_code == 3
    assert "fault: two calls do not give the same bits" in result.stdout
    result = ev2("any.pt", "--json")
    assert result.exit_code == 3
    content = json.loads(result.stdout)
    assert content["faults"] == ["two calls do not give the same bits"]
    (rotation,) = (one for one in content["findings"] if one["symmetry"] == "rotation")
    assert rotation["measured"]["outputs"]["forces"]["mean"] > 0
    assert rotation["parts"].keys() == {"neighbour limit", "precision", "grid resolution", "model"}
    assert rotation["steps"]["finer_grids"].keys() == {"16"}


def test_structures_that_are_built_in() -> None:
    assert [one.ids[0] for one in named_structures(None, ("Cu", "C", "O"))] == ["adsorbate on slab", "molecule"]
