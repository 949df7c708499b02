import io

import numpy as np
import pytest
from rich.console import Console

from ev2_plugin.data.errors import S2EFComparison, TargetComparison
from ev2_plugin.demo.relaxations import RelaxedSystem
from ev2_plugin.demo.table import error_table, relaxation_table, summarise_relaxations

VERDICTS = [
    RelaxedSystem(0, 0.04, 1.0, -0.2, 0.1, 0.5, fmax=0.05),
    RelaxedSystem(1, 0.20, 2.0, 0.1, 0.3, 0.7, fmax=0.06),
    RelaxedSystem(2, -0.30, 3.0, 0.6, 0.8, 0.9, fmax=0.01),
]


def rendered(table) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(table)
    return console.file.getvalue()


def row(text: str, start: str) -> list[str]:
    line = next(line for line in text.splitlines() if start in line)
    return [cell.strip() for cell in line.strip("│┃ ").split("│")]


def test_relaxations_are_averaged():
    summary = summarise_relaxations(VERDICTS, fmax=0.05)
    assert summary.systems == 3
    assert summary.converged == 2
    assert summary.same_minimum == 2
    assert summary.start_excess == pytest.approx(2.0)
    assert summary.emt_excess == pytest.approx(-0.02)
    assert summary.start_excess_median == pytest.approx(2.0)
    assert summary.emt_excess_median == pytest.approx(0.04)
    assert summary.energy_mae == pytest.approx(0.3)
    assert summary.start_distance == pytest.approx(0.7)
    assert summary.distance == pytest.approx(0.4)


def test_no_relaxations_are_an_error():
    with pytest.raises(ValueError, match="no relaxations"):
        summarise_relaxations([], fmax=0.05)


def test_the_table_of_relaxations_has_units_and_both_columns():
    text = rendered(relaxation_table(summarise_relaxations(VERDICTS, fmax=0.05)))
    assert row(text, "minimum, median") == ["energy above EMT's minimum, median [eV]", "2.000", "0.040"]
    assert row(text, "minimum, mean") == ["energy above EMT's minimum, mean [eV]", "2.000", "-0.020"]
    assert row(text, "distance") == ["distance from it, mean [Å]", "0.700", "0.400"]
    assert row(text, "predicted") == ["predicted energy error, mean [eV]", "", "0.300"]
    assert row(text, "converged") == ["converged", "", "2/3"]


def test_the_table_of_errors_has_model_mean_predictor_and_ratio():
    comparison = S2EFComparison(
        energy=TargetComparison(np.array([1.0, 3.0]), np.array([1.5, 3.0]), mean_prediction=2.0),
        forces=TargetComparison(np.array([0.5, -0.5]), np.array([0.4, -0.4]), mean_prediction=0.0),
        sids=np.array([4, 4]),
    )
    text = rendered(error_table(comparison))
    assert "2 of 1 systems" in text
    assert row(text, "energy") == ["adsorption energy [eV]", "0.250", "1.000", "25%"]
    assert row(text, "force") == ["force component, free atoms [eV/Å]", "0.100", "0.500", "20%"]
