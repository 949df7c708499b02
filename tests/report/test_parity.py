"""Parity plots of few and of many values."""

import numpy as np

from ev2_plugin.report.parity import BINS, MOST_POINTS, outside, parity_plot
from ev2_plugin.report.parts import ParityPlot


def plot_of(labels: np.ndarray, predictions: np.ndarray) -> ParityPlot:
    return parity_plot("p", labels, predictions, quantity="q", unit="eV", members="m", worst=[], viewer="v")


def test_few_values_are_points_and_all_are_inside() -> None:
    labels = np.linspace(-1.0, 3.0, MOST_POINTS)
    plot = plot_of(labels, labels + 0.5)
    assert plot.cells == ()
    assert len(plot.points) == MOST_POINTS
    assert plot.low < -1.0 < 3.5 < plot.high
    assert outside(plot, labels, labels + 0.5) == 0


def test_a_density_counts_every_value_where_it_lies() -> None:
    rng = np.random.default_rng(0)
    labels = rng.normal(size=50_000)
    predictions = labels + rng.normal(scale=0.1, size=50_000) + 0.3
    plot = plot_of(labels, predictions)
    columns, rows, counts = np.array(plot.cells).T
    assert plot.points == ()
    assert counts.sum() == 50_000 - outside(plot, labels, predictions)
    width = (plot.high - plot.low) / BINS
    middle = [plot.low + width * (np.average(one, weights=counts) + 0.5) for one in (columns, rows)]
    np.testing.assert_allclose(middle, [labels.mean(), predictions.mean()], atol=0.02)


def test_a_value_far_out_does_not_shrink_the_rest_and_is_counted() -> None:
    labels = np.random.default_rng(0).normal(size=20_000)
    predictions = labels.copy()
    predictions[7] = 1e6
    plot = plot_of(labels, predictions)
    assert plot.high < 10
    assert outside(plot, labels, predictions) >= 1
    assert len(plot.cells) > 100


def test_equal_values_have_a_place() -> None:
    plot = plot_of(np.zeros(3), np.zeros(3))
    assert plot.low < 0 < plot.high
