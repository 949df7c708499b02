"""ASE's calculator: the host's forces on the same checkpoint, one structure or many, no weights left out."""

import copy
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import molecule
from ase.constraints import FixAtoms, FixBondLength
from ase.filters import FrechetCellFilter
from ase.md.verlet import VelocityVerlet
from ase.optimize import LBFGS
from fairchem.core.common.relaxation.ase_utils import OCPCalculator
from torch_geometric.data import Batch

import ev2_plugin
from ev2_plugin.integration.calculator import Calculator
from ev2_plugin.integration.host_classes import only_needed_imports
from ev2_plugin.integration.potential import HostModelPotential, ModelPotential
from ev2_plugin.storage.checkpoint_file import read_checkpoint
from helpers import tiny_s2ef
from helpers.models import fill_by_name
from helpers.structures import assorted, single_atom, slab
from helpers.trainers import config, make_trainer

NORMALIZER = {"energy": {"mean": -0.75, "rmsd": 2.9}, "forces": {"mean": 0.0, "rmsd": 0.2}}
MODELS: dict[str, dict[str, Any]] = {
    "flat": tiny_s2ef.FLAT_MODEL,
    "hydra": tiny_s2ef.HYDRA_MODEL,
    "equiformer_v2": {**tiny_s2ef.FLAT_MODEL, "name": "equiformer_v2"},
    "schnet": {"name": "schnet", "hidden_channels": 16, "num_filters": 16, "cutoff": 4.0, "otf_graph": True},
}
STRESS = {
    "stress": {
        "level": "system",
        "decomposition": {"stress_isotropic": {"irrep_dim": 0}, "stress_anisotropic": {"irrep_dim": 2}},
    }
}
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def write(dataset: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Write the checkpoint of a trainer, its weights far from their initialisation, averaged ones only."""
    written: dict[str, Path] = {}

    def checkpoint(name: str) -> Path:
        if name not in written:
            data = {**dataset, "transforms": {"normalizer": NORMALIZER}}
            settings = config(data, copy.deepcopy(MODELS[name]))
            trainer = make_trainer(settings, tmp_path_factory.mktemp(name))
            fill_by_name(trainer.model)
            trainer.ema = None
            written[name] = Path(trainer.save(checkpoint_file=f"{name}.pt"))
        return written[name]

    return checkpoint


@pytest.fixture
def flat(write: Write) -> Calculator:
    return Calculator(write("flat"), device="cpu")


def rounded(atoms: Atoms) -> Atoms:
    """Positions that single precision holds too."""
    atoms = atoms.copy()
    atoms.positions = atoms.positions.astype(np.float32)
    atoms.cell = atoms.cell.array.astype(np.float32)
    return atoms


def hosts(checkpoint: Path) -> OCPCalculator:
    content = torch.load(checkpoint, weights_only=False)
    with warnings.catch_warnings(), only_needed_imports({**content["config"], "trainer": "ocp"}):
        warnings.simplefilter("ignore", FutureWarning)  # the host's torch.load
        return OCPCalculator(checkpoint_path=checkpoint, trainer="ocp", cpu=True, seed=0)


@pytest.mark.parametrize("name", MODELS)
def test_forces_of_the_hosts_calculator(name: str, write: Write) -> None:
    ours, theirs = Calculator(write(name), device="cpu"), hosts(write(name))
    # the host's EquiformerV2 turns every edge at random: its numbers vary by the error of the sphere grid
    tolerance = 0.05 if name == "equiformer_v2" else 1e-4
    assert isinstance(ours.potential, HostModelPotential if name == "schnet" else ModelPotential)
    for atoms in map(rounded, tiny_s2ef.slabs()[:2]):
        atoms.calc = theirs
        energy, forces = atoms.get_potential_energy(), atoms.get_forces(apply_constraint=False)
        atoms.calc = ours
        scale = np.abs(forces).max()
        assert scale > 1e-3
        np.testing.assert_allclose(atoms.get_forces(apply_constraint=False), forces, atol=tolerance * scale)
        assert atoms.get_potential_energy() == pytest.approx(energy, abs=tolerance * abs(energy))


@pytest.mark.parametrize("name", ["flat", "hydra", "schnet"])
def test_a_batch_is_its_structures(name: str, write: Write) -> None:
    calculator = Calculator(write(name), device="cpu")
    structures = tiny_s2ef.slabs() if name == "schnet" else [*assorted(), molecule("H2O"), *tiny_s2ef.slabs()]
    together = calculator.batch(structures)
    assert not calculator.results
    assert len(together) == len(structures)
    for atoms, result in zip(structures, together, strict=True):
        atoms = atoms.copy()
        atoms.calc = calculator
        assert atoms.get_potential_energy() == pytest.approx(result["energy"], abs=2e-5)
        np.testing.assert_allclose(atoms.get_forces(apply_constraint=False), result["forces"], atol=2e-5)
        assert result["forces"].dtype == np.float64
        assert result["free_energy"] == result["energy"]
    assert calculator.batch([]) == []


def test_an_isolated_atom_and_a_molecule_without_cell(flat: Calculator) -> None:
    for atoms in (single_atom(), molecule("CH3CH2OH")):
        atoms.calc = flat
        assert np.isfinite(atoms.get_potential_energy())
        assert atoms.get_forces().shape == (len(atoms), 3)
    np.testing.assert_array_equal(flat.batch([single_atom()])[0]["forces"], np.zeros((1, 3)))


def test_constraints_are_left_to_ase(flat: Calculator) -> None:
    free, held = slab(), slab()
    held.set_constraint([FixAtoms([0, 1]), FixBondLength(8, 9)])
    for atoms in (free, held):
        atoms.calc = flat
    np.testing.assert_array_equal(held.get_forces(apply_constraint=False), free.get_forces())
    assert (held.get_forces()[:2] == 0).all()
    assert (free.get_forces()[:2] != 0).any()


def test_optimisers_and_dynamics_of_ase(flat: Calculator) -> None:
    atoms = tiny_s2ef.slabs()[0]
    atoms.calc = flat
    fixed = atoms.constraints[0].index
    before = atoms.positions.copy()
    LBFGS(atoms, logfile=None).run(fmax=1e-6, steps=5)
    np.testing.assert_array_equal(atoms.positions[fixed], before[fixed])
    assert (np.delete(atoms.positions - before, fixed, axis=0) != 0).any(axis=1).all()
    neighbors = flat.potential.neighbors
    assert neighbors.reused >= 3
    VelocityVerlet(atoms, 1.0 * units.fs).run(3)
    assert np.isfinite(atoms.get_total_energy())


def test_a_known_result_is_not_computed_twice(flat: Calculator, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    evaluate = flat.potential.evaluate
    monkeypatch.setattr(flat.potential, "evaluate", lambda *given: (calls.append(1), evaluate(*given))[1])
    atoms = slab()
    atoms.calc = flat
    atoms.get_forces(), atoms.get_potential_energy(), atoms.get_potential_energy(force_consistent=True)
    assert len(calls) == 1
    atoms.positions[0, 0] += 1e-9
    atoms.get_forces()
    assert len(calls) == 2


def test_stress_in_ases_form(dataset: dict[str, Any], tmp_path: Path) -> None:
    model = copy.deepcopy(tiny_s2ef.HYDRA_MODEL)
    model["heads"]["stress"] = {"module": "ev2_stress_head", "decompose": True}
    settings = config(dataset, model)
    trainer = make_trainer({**settings, "evaluation_metrics": {}}, tmp_path)
    trainer.config["outputs"].update(copy.deepcopy(STRESS))
    trainer.load_task()
    fill_by_name(trainer.model)
    trainer.ema = None
    trainer.normalizers["stress_isotropic"] = type(trainer.normalizers.get("energy", _normalizer()))(0.25, 3.0)
    calculator = Calculator(trainer.save(), device="cpu")
    batch = next(iter(trainer.val_loader))
    expected = trainer.predict(batch, per_image=False, disable_tqdm=True)["stress"].reshape(-1, 3, 3).double().numpy()
    atoms = _of_host(batch)
    atoms.calc = calculator
    np.testing.assert_allclose(atoms.get_stress(voigt=False), expected[0], rtol=1e-4, atol=1e-5)
    assert np.ptp(np.diag(expected[0])) > 1e-3
    LBFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-6, steps=2)


def _normalizer() -> Any:
    from fairchem.core.modules.normalization.normalizer import Normalizer

    return Normalizer()


def _of_host(batch: Batch) -> Atoms:
    atoms = int(batch.natoms[0])
    numbers, positions = batch.atomic_numbers[:atoms].long(), batch.pos[:atoms].double()
    return Atoms(numbers.numpy(), positions.numpy(), cell=batch.cell[0].double().numpy(), pbc=True)


def _change(content: dict[str, Any], change: str) -> None:
    weights = content["state_dict"]
    name = "energy_block.so3_linear_2.weight" if "energy_block.so3_linear_2.weight" in weights else next(iter(weights))
    if change == "missing":
        del weights[name]
    elif change == "left over":
        weights["blocks.7.norm_1.affine_weight"] = torch.zeros(3)
    elif change == "shape":
        weights[name] = weights[name][..., :-1]
    elif change == "empty":
        weights.clear()
    elif change == "normaliser":
        content["normalizers"] = {}
        content["config"]["dataset"]["transforms"]["normalizer"] = {"fit": {"targets": {"energy": None}}}
    elif change == "references":
        content["config"]["dataset"]["transforms"]["element_references"] = {"file": "elsewhere.pt", "energy": {}}
    elif change == "averages":
        content["ema"] = {"decay": 0.9, "num_updates": 1, "shadow_params": [], "collected_params": []}
    elif change == "config":
        del content["config"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", "Weights 1 not in the checkpoint: "),
        ("left over", r"Weights 1 not in the model: blocks\.7\.norm_1\.affine_weight"),
        ("shape", r"Weights 1 of another shape: .* instead of "),
        ("empty", r"Weights \d+ not in the checkpoint"),
        ("normaliser", "lacks the normaliser of energy that its config names"),
        ("references", "lacks the element references of energy that its config names"),
        ("averages", r"has 0 averaged weights, the model \d+ trained ones"),
        ("config", "is no checkpoint of a trainer: it has no config"),
    ],
)
@pytest.mark.parametrize("name", ["flat", "hydra"])
def test_what_is_not_complete_is_refused(name: str, change: str, message: str, write: Write, tmp_path: Path) -> None:
    content = read_checkpoint(Path(write(name)))  # without its digest, as files of others are
    _change(content, change)
    torch.save(content, tmp_path / "changed.pt")
    with pytest.raises(ValueError, match=message):
        Calculator(tmp_path / "changed.pt", device="cpu")


def test_refusals(write: Write, tmp_path: Path, flat: Calculator, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        Calculator(tmp_path / "nowhere.pt")
    whole = write("flat").read_bytes()
    for number, content in enumerate((b"", b"2\nCO molecule\n", whole[:100], whole[: len(whole) // 2])):
        (tmp_path / f"{number}.pt").write_bytes(content)
        with pytest.raises(ValueError, match=f"{number}.pt cannot be read, it is damaged or of another kind"):
            Calculator(tmp_path / f"{number}.pt")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="there is no device 'cuda:1' here"):
        Calculator(write("flat"), device="cuda:1")
    with pytest.raises(ValueError, match="device must be auto, cpu, cuda"):
        Calculator(write("flat"), device="graphics")
    with pytest.raises(ValueError, match="structure 1 has no atoms"):
        flat.batch([slab(), Atoms()])


def test_says_what_its_energies_are(write: Write) -> None:
    calculator = Calculator(write("flat"))
    assert calculator.parameters["energy_kind"] == calculator.energy_kind.name == "adsorption"
    assert str(calculator).endswith(
        "energy: adsorption energy, relative to the clean surface and gas-phase references (normalised as OC20's "
        "adsorption energies)"
    )


def test_stands_at_the_root_of_the_package() -> None:
    assert ev2_plugin.Calculator is Calculator


def test_the_example_of_the_page(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    page = (Path(__file__).parents[2] / "docs/calculator.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    shutil.copy(write("flat"), tmp_path / "best_checkpoint.pt")
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "docs/calculator.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("EquiformerV2 on ")
    assert printed[-1].endswith("(14, 3)")
