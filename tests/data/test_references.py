import numpy as np
import pytest

from ev2_plugin.data.references import CompositionFit

ENERGIES = {1: -3.4, 8: -6.7, 29: -2.7}


def structures(count: int) -> list[tuple[np.ndarray, float]]:
    """Random compositions with the sum of `ENERGIES` and some noise."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        numbers = np.repeat(list(ENERGIES), rng.integers(1, 20, size=3))
        made.append((numbers, sum(ENERGIES[number] for number in numbers) + rng.normal(scale=0.1)))
    return made


def fit_of(made: list[tuple[np.ndarray, float]]) -> CompositionFit:
    fit = CompositionFit()
    for numbers, energy in made:
        fit.add(numbers, energy)
    return fit


def test_references_are_those_of_a_least_squares_fit_to_all_rows():
    made = structures(700)  # more than are folded at once
    fit = fit_of(made)
    counts = np.array([[np.sum(numbers == z) for z in ENERGIES] for numbers, _ in made])
    energies = np.array([energy for _, energy in made])
    expected = np.linalg.lstsq(counts, energies, rcond=None)[0]
    references = fit.solve()
    assert list(references.by_number) == [1, 8, 29]
    assert list(references.by_symbol) == ["H", "O", "Cu"]
    np.testing.assert_allclose(list(references.by_number.values()), expected, atol=1e-9)
    residual = energies - counts @ expected
    assert references.residual.mean == pytest.approx(residual.mean(), abs=1e-9)
    assert references.residual.std == pytest.approx(residual.std(ddof=1), rel=1e-9)
    assert references.explained == pytest.approx(1 - residual.var() / energies.var(), rel=1e-9)
    assert references.is_determined
    assert fit.num_structures == 700
    assert fit.factor.shape[0] <= 121


def test_means_and_spreads_survive_a_large_offset():
    energies = 1e5 + np.random.default_rng(1).normal(size=500)
    fit = fit_of([(np.array([29]), energy) for energy in energies])
    assert fit.spread().mean == pytest.approx(energies.mean(), rel=1e-12)
    assert fit.spread().std == pytest.approx(energies.std(ddof=1), rel=1e-5)


def test_parts_merge_to_the_whole():
    made = structures(40)
    whole, first, second = fit_of(made), fit_of(made[:15]), fit_of(made[15:])
    first.merge(second.fold())
    assert first.num_structures == 40
    np.testing.assert_allclose(list(first.solve().by_number.values()), list(whole.solve().by_number.values()))


def test_compositions_that_do_not_tell_elements_apart_are_known():
    references = fit_of([(np.array([22, 8, 8] * size), -25.0 * size) for size in (1, 2, 3)]).solve()
    assert references.rank == 1
    assert not references.is_determined
    assert references.by_number[22] + 2 * references.by_number[8] == pytest.approx(-25.0)


def test_given_references_are_subtracted():
    fit = fit_of([(np.array([1, 1, 8]), -14.0), (np.array([1, 8]), -10.5)])
    left = fit.subtract({1: -3.5, 8: -7.5})
    assert left.mean == pytest.approx(0.5)
    assert left.std == pytest.approx(0.0, abs=1e-7)
    with pytest.raises(ValueError, match="no element reference for O"):
        fit.subtract({1: -3.5})


@pytest.mark.parametrize("number", [0, 119])
def test_numbers_of_no_element_are_refused(number):
    with pytest.raises(ValueError, match=rf"\[{number}\] are no elements"):
        CompositionFit().add(np.array([1, number]), 0.0)


def test_one_structure_has_no_spread():
    with pytest.raises(ValueError, match="at least two structures, not 1"):
        fit_of(structures(1)).solve()
