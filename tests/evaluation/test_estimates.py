import numpy as np
import pytest

from ev2_plugin.evaluation.estimates import Tally, estimate


def test_one_structure_per_system_gives_the_textbook_standard_error():
    values = np.random.default_rng(0).normal(size=40)
    found = estimate(Tally.of_structures(values), np.arange(40))
    assert found.value == pytest.approx(values.mean())
    assert found.standard_error == pytest.approx(values.std(ddof=1) / np.sqrt(40))
    assert (found.count, found.systems) == (40, 40)


def test_repeated_frames_do_not_make_a_mean_more_certain():
    values = np.random.default_rng(0).normal(size=40)
    once = estimate(Tally.of_structures(values), np.arange(40))
    often = estimate(Tally.of_structures(np.repeat(values, 5)), np.repeat(np.arange(40), 5))
    assert often.standard_error == pytest.approx(once.standard_error)
    assert (often.count, often.systems) == (200, 40)


def test_the_standard_error_of_a_mean_over_atoms_is_its_spread_over_samples():
    rng = np.random.default_rng(0)
    values, errors = [], []
    for _ in range(400):
        natoms = rng.integers(1, 9, size=60)
        level = np.repeat(rng.normal(size=60), natoms)  # atoms of one structure err alike
        sums = level + 0.3 * rng.normal(size=len(level))
        found = estimate(Tally.of_atoms(sums, np.repeat(np.arange(60), natoms), 60), np.arange(60))
        values.append(found.value)
        errors.append(found.standard_error)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.1)


def test_members_of_atoms_are_counted():
    tally = Tally.of_atoms(np.array([3.0, 6.0, 1.5]), np.array([0, 0, 2]), 4, members=3)
    assert tally.sums.tolist() == [9.0, 0.0, 1.5, 0.0]
    assert tally.counts.tolist() == [6, 0, 3, 0]
    found = estimate(tally, np.array([0, 1, 2, 3]))
    assert (found.value, found.count, found.systems) == (pytest.approx(10.5 / 9), 9, 2)


def test_a_choice_of_structures():
    tally, systems = Tally.of_structures(np.array([1.0, 2.0, 30.0])), np.array([5, 5, 6])
    found = estimate(tally, systems, np.array([True, True, False]))
    assert (found.value, found.standard_error, found.systems) == (1.5, None, 1)
    assert estimate(tally, systems, np.zeros(3, dtype=bool)) is None
