import numpy as np
import pytest

from ev2_plugin.evaluation.thresholds import (
    DISTANCE_THRESHOLDS,
    RELAXED_FORCE_THRESHOLDS,
    average_below,
    energies_and_forces_below,
    share_below,
)


def test_ranges_are_those_of_the_definitions():
    assert (DISTANCE_THRESHOLDS[0], DISTANCE_THRESHOLDS[-1], len(DISTANCE_THRESHOLDS)) == (0.01, 0.499, 490)
    assert (RELAXED_FORCE_THRESHOLDS[0], RELAXED_FORCE_THRESHOLDS[-1], len(RELAXED_FORCE_THRESHOLDS)) == (
        0.01,
        0.4,
        391,
    )


def test_structures_count_below_a_threshold_and_not_at_it():
    thresholds = np.array([0.1, 0.2, 0.3, 0.4])
    values = np.array([0.05, 0.1, 0.25, 0.4, 7.0])
    expected = [[value < threshold for threshold in thresholds] for value in values]
    np.testing.assert_array_equal(average_below(values, thresholds), np.mean(expected, axis=1))
    np.testing.assert_array_equal(share_below(values, thresholds), np.mean(expected, axis=0))
    energies, forces = np.array([0.019, 0.02, 0.019, 0.0]), np.array([0.029, 0.0, 0.03, 0.029])
    assert energies_and_forces_below(energies, forces).tolist() == [True, False, False, True]


@pytest.mark.parametrize("seed", range(5))
def test_the_average_over_structures_is_the_average_over_thresholds(seed):
    values = np.random.default_rng(seed).exponential(0.2, size=50)
    score = average_below(values, DISTANCE_THRESHOLDS).mean()
    assert score == pytest.approx(share_below(values, DISTANCE_THRESHOLDS).mean(), abs=1e-14)
