import pickle

import numpy as np
import pytest
from ase.build import fcc111
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from ev2_plugin.data.structures import structure_to_data
from ev2_plugin.evaluation import force_oracle
from ev2_plugin.evaluation.force_oracle import ForceOracle, largest_forces, relaxed_structure

EMT_ORACLE = ForceOracle("ase.calculators.emt.EMT")


class Fails(Calculator):
    """Fails, or gives forces that are no numbers, on structures with an atom above a height."""

    implemented_properties = ("energy", "forces")

    def __init__(self, height: float, nan: bool = False) -> None:
        super().__init__()
        self.height, self.nan = height, nan

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        high = atoms.positions[:, 2].max() > self.height
        if high and not self.nan:
            raise RuntimeError("no convergence")
        self.results = {"energy": 0.0, "forces": np.full((len(atoms), 3), np.nan if high else 0.1)}


def slabs(number):
    rng = np.random.default_rng(0)
    for sid in range(number):
        atoms = fcc111("Cu", (2, 2, 2), vacuum=5.0, periodic=True)
        atoms.set_tags([0] * 4 + [1] * 4)
        atoms.set_constraint(FixAtoms(range(4)))
        atoms.positions += rng.normal(scale=0.1, size=(8, 3))
        yield atoms, relaxed_structure(structure_to_data(atoms, sid=sid), atoms.positions)


def as_other_processes_would(jobs, workers):
    """Every job through a pickle, the last one finished first."""
    assert workers == 2
    return [pickle.loads(pickle.dumps(job))() for job in reversed(jobs)]


@pytest.mark.parametrize("workers", [1, 2])
def test_largest_forces_are_those_on_free_atoms(workers, monkeypatch):
    monkeypatch.setattr(force_oracle, "STRUCTURES_PER_JOB", 2)
    if workers == 2:
        monkeypatch.setattr(force_oracle, "run_jobs", as_other_processes_would)
    expected, structures = [], []
    for atoms, structure in slabs(5):
        atoms.calc = EMT()
        expected.append(np.linalg.norm(atoms.get_forces(apply_constraint=False)[4:], axis=1).max())
        structures.append(structure)
    seen = []
    found = largest_forces(structures, EMT_ORACLE, workers, lambda *counts: seen.append(counts))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert len(seen) == 3
    assert seen[-1] == (5, 5)


def test_a_structure_on_which_the_calculator_fails_is_named():
    structures = [structure for _, structure in slabs(3)]
    heights = sorted((float(one.positions[:, 2].max()), one.ids[0]) for one in structures)
    height, highest = (heights[1][0] + heights[2][0]) / 2, heights[2][1]
    path = f"{__name__}.{Fails.__name__}"
    for nan, said in ((False, f"structure {highest}: Fails: no convergence"), (True, "forces are not finite")):
        with pytest.raises(ValueError, match=said):
            largest_forces(structures, _Local(path, {"height": height, "nan": nan}), 1)


class _Local(ForceOracle):
    """Builds `Fails`: a test module has no name that can be imported."""

    def build(self) -> Calculator:
        return Fails(**self.arguments)


@pytest.mark.parametrize(
    ("path", "arguments", "said"),
    [
        ("ase.calculators.emt.ETM", {}, "has no attribute 'ETM'"),
        ("no_such_package.Calculator", {}, "No module named 'no_such_package'"),
        ("EMT", {}, "calculator 'EMT': choose emt"),
        ("ase.calculators.singlepoint.SinglePointCalculator", {"energy": 1}, "missing 1 required .* 'atoms'"),
        ("collections.OrderedDict", {}, "makes a OrderedDict, which is no calculator of ASE"),
    ],
)
def test_mistaken_calculators_are_refused(path, arguments, said):
    with pytest.raises(ValueError, match=said):
        ForceOracle(path, arguments).build()
