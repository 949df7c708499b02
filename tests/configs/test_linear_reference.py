"""The linear reference of OC22 against the file it was taken from."""

from pathlib import Path

import numpy as np
import pytest
from ase.data import atomic_numbers, chemical_symbols

from ev2_plugin.integration.run_config import load_config
from helpers.run_files import CONFIGS

SOURCE = Path(__file__).parents[2] / "../shared/data/oc22_linfit_coeffs.npz"
MEANINGLESS = {"He", "B", "F", "Ne", "P", "S", "Cl", "Ar", "Br", "Kr", "Tc", "I", "Xe"}


def elements() -> dict[str, float]:
    config, _ = load_config(CONFIGS / "oc22/data/linear_reference.yml")
    return config["dataset"]["train"]["transforms"]["element_references"]["energy"]["elements"]


def test_elements_of_the_fit_have_plausible_energies() -> None:
    reference = elements()
    assert len(reference) == 57
    assert not MEANINGLESS & set(reference)
    assert set(reference) <= set(atomic_numbers)
    assert list(reference) == sorted(reference, key=atomic_numbers.__getitem__)
    assert all(isinstance(value, float) and -20 < value < 2 for value in reference.values())


@pytest.mark.skipif(not SOURCE.is_file(), reason=f"the source, {SOURCE.name}, is not at hand")
def test_coefficients_are_those_of_the_source() -> None:
    with np.load(SOURCE) as file:
        coefficients = dict(zip(chemical_symbols, file["coeff"], strict=False))
    expected = {
        symbol: value for symbol, value in coefficients.items() if value != 0 and symbol not in MEANINGLESS | {"X"}
    }
    reference = elements()
    assert set(reference) == set(expected)
    for symbol, value in reference.items():
        assert value == pytest.approx(expected[symbol], rel=1e-8, abs=0), symbol
