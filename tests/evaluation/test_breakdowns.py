"""Breakdowns against loops over the structures."""

from collections import defaultdict

import numpy as np
import pytest
from ase.data import chemical_symbols

from ev2_plugin.evaluation.breakdowns import evaluate_predictions, evaluate_relaxations
from ev2_plugin.evaluation.definitions import DEFINITIONS
from ev2_plugin.evaluation.predictions import score_predictions
from ev2_plugin.evaluation.relaxations import score_relaxations


@pytest.fixture
def structures(random_data):
    return [random_data(sid, fid) for sid in range(12) for fid in range(2)]


@pytest.fixture
def predictions(structures, near):
    return {f"{data.sid}_{data.fid}": near(data, 0.2) for data in structures}


@pytest.fixture
def evaluation(structures, predictions):
    return evaluate_predictions(score_predictions([("", data) for data in structures], predictions, "set"))


def force_errors(data, predictions):
    """Of each free atom: its number, its label and its components' errors."""
    free = data.fixed.numpy() == 0
    labels = data.force.numpy()[free]
    errors = np.abs(predictions[f"{data.sid}_{data.fid}"].free_forces - labels)
    return zip(data.atomic_numbers.numpy()[free], labels, errors, strict=True)


def test_by_element(structures, predictions, evaluation):
    components, energies = defaultdict(list), defaultdict(list)
    for data in structures:
        for number, _, errors in force_errors(data, predictions):
            components[chemical_symbols[number]].extend(errors)
        for number in set(data.atomic_numbers.tolist()):
            energies[chemical_symbols[number]].append(abs(predictions[f"{data.sid}_{data.fid}"].energy - data.y))
    groups = evaluation.breakdowns["element"]
    assert list(groups) == ["H", "C", "O", "Al", "Cu", "Pt"]
    for symbol, group in groups.items():
        assert group["forces_mae"].value == pytest.approx(np.mean(components[symbol]))
        assert group["forces_mae"].count == len(components[symbol])
        assert group["energy_mae"].value == pytest.approx(np.mean(energies[symbol]))
        assert group["energy_mae"].count == len(energies[symbol])
        assert group["forces_mae"].standard_error > 0


def test_an_element_without_free_atoms_has_no_force_error(random_data, near):
    data = random_data(0)
    data.atomic_numbers[:2] = 79
    scored = score_predictions([("", data)], {"0_0": near(data, 0.1)}, "set")
    gold = evaluate_predictions(scored).breakdowns["element"]["Au"]
    assert "energy_mae" in gold
    assert not any(name.startswith("forces_") for name in gold)


def test_by_adsorbate(structures, predictions, evaluation):
    energies = defaultdict(list)
    for data in structures:  # systems of odd number have OH, the others CO
        energies["HO" if data.sid % 2 else "CO"].append(abs(predictions[f"{data.sid}_{data.fid}"].energy - data.y))
    groups = evaluation.breakdowns["adsorbate"]
    assert {name: group["energy_mae"].value for name, group in groups.items()} == {
        name: pytest.approx(np.mean(errors)) for name, errors in energies.items()
    }
    assert groups["HO"]["energy_mae"].count == 12
    assert groups["HO"]["energy_mae"].systems == 6


def test_by_force(structures, predictions, evaluation):
    edges = [0.0, 0.03, 0.1, 0.3, 1.0, 3.0, np.inf]
    found = [[] for _ in edges[1:]]
    for data in structures:
        for _, label, errors in force_errors(data, predictions):
            found[np.searchsorted(edges, np.linalg.norm(label), side="right") - 1].extend(errors)
    groups = evaluation.breakdowns["force"]
    expected = [pytest.approx(np.mean(errors)) for errors in found if errors]
    assert [group["forces_mae"].value for group in groups.values()] == expected
    assert sum(group["forces_mae"].count for group in groups.values()) == evaluation.metrics["forces_mae"].count
    assert list(groups)[-1] == "from 3 eV/Å"


def test_by_number_of_atoms(random_data):
    structures = [random_data(sid, None) for sid in range(3)]
    for data, natoms in zip(structures, (24, 25, 300), strict=True):
        more = natoms - data.natoms
        for key, value in (("atomic_numbers", 78), ("tags", 1)):
            filler = data[key].new_full((more,), value)
            data[key] = data[key].new_tensor([*data[key].tolist(), *filler.tolist()])
    energies = {str(data.sid): data.y + data.sid for data in structures}
    scored = score_predictions([("", data) for data in structures], energies, "set")
    groups = evaluate_predictions(scored).breakdowns["atoms"]
    assert {name: group["energy_mae"].value for name, group in groups.items()} == {
        "below 25": pytest.approx(0.0),
        "25 to 50": pytest.approx(1.0),
        "from 200": pytest.approx(2.0),
    }


def test_relaxations(random_data):
    structures = [random_data(sid, None) for sid in range(8)]
    positions = {str(data.sid): data.pos_relaxed.numpy() + 0.01 * data.sid for data in structures}
    energies = {str(data.sid): data.y_relaxed + 0.015 * data.sid for data in structures}
    names = {str(data.sid): "*X" if data.sid < 5 else "*Y" for data in structures}
    scored = score_relaxations([("", data) for data in structures], positions, energies, "set", adsorbates=names)
    evaluation = evaluate_relaxations(scored.with_forces(np.full(8, 0.1)))
    groups = evaluation.breakdowns["adsorbate"]
    assert groups["*X"]["distance"].value == pytest.approx(0.02 * np.sqrt(3), abs=1e-6)
    assert groups["*Y"]["distance"].count == 3
    assert groups["*X"]["energy_within_threshold"].value == pytest.approx(0.4)
    assert evaluation.metrics["average_force_below_threshold"].value == pytest.approx(300 / 391)
    assert set(evaluation.metrics) <= set(DEFINITIONS)
    assert evaluation.subject == "relaxations"
