"""Parity plots of any number of values: few as points, many as a density with the worst as points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from ev2_plugin.report.parts import ParityPlot

MOST_POINTS = 2000  # more are drawn as a density
BINS = 160
CENTRAL = (0.02, 99.98)
"""Percentiles that the axes span where a few values lie far out: they would leave a density a speck."""


def parity_plot(
    name: str,
    labels: Float[np.ndarray, " values"],
    predictions: Float[np.ndarray, " values"],
    *,
    quantity: str,
    unit: str,
    members: str,
    worst: Sequence[tuple[float, float, str]],
    viewer: str,
) -> ParityPlot:
    """Make the plot of predictions over labels.

    Args:
        name: Of the plot.
        labels: Reference values.
        predictions: The model's.
        quantity: What they are.
        unit: Of both.
        members: What the values belong to.
        worst: Label, prediction and structure of the largest errors.
        viewer: Shows the structures.
    """
    low, high = _span(np.concatenate([labels, predictions]))
    many = len(labels) > MOST_POINTS
    return ParityPlot(
        id=name,
        title=f"Parity of {members}",
        quantity=quantity,
        unit=unit,
        low=low,
        high=high,
        bins=BINS,
        cells=_cells(labels, predictions, low, high) if many else (),
        points=() if many else tuple(zip(_short(labels), _short(predictions), strict=True)),
        worst=tuple((label, prediction, key) for label, prediction, key in worst),
        viewer=viewer,
        members=members,
    )


def outside(plot: ParityPlot, labels: np.ndarray, predictions: np.ndarray) -> int:
    """Count the values that lie outside of a plot's axes."""
    return int(np.sum(~(_within(labels, plot.low, plot.high) & _within(predictions, plot.low, plot.high))))


def _span(values: np.ndarray) -> tuple[float, float]:
    """Ends of the axes: all values, unless that would more than double what nearly all of them need."""
    low, high = float(values.min()), float(values.max())
    inner_low, inner_high = (float(one) for one in np.percentile(values, CENTRAL))
    if high - low > 2 * (inner_high - inner_low) > 0:
        low, high = inner_low, inner_high
    margin = 0.03 * (high - low) or 1.0
    return low - margin, high + margin


def _cells(labels: np.ndarray, predictions: np.ndarray, low: float, high: float) -> tuple[tuple[int, int, int], ...]:
    inside = _within(labels, low, high) & _within(predictions, low, high)
    columns, rows = (
        np.minimum((BINS * (values[inside] - low) / (high - low)).astype(int), BINS - 1)
        for values in (labels, predictions)
    )
    counts = np.bincount(columns * BINS + rows, minlength=BINS**2)
    return tuple((int(cell) // BINS, int(cell) % BINS, int(counts[cell])) for cell in np.flatnonzero(counts))


def _within(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return (values >= low) & (values <= high)


def _short(values: np.ndarray) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
