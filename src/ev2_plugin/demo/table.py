"""The demo's numbers as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.markup import escape
from rich.table import Table

from ev2_plugin.data.errors import S2EFComparison, TargetComparison
from ev2_plugin.demo.relaxations import RelaxedSystem

SAME_MINIMUM = 0.05  # eV


@dataclass(frozen=True)
class RelaxationSummary:
    """Relaxations of a test set in a few numbers.

    Attributes:
        systems: How many were relaxed.
        converged: How many ended with predicted forces below the threshold.
        start_excess: Mean EMT energy of the starts above EMT's minima [eV].
        emt_excess: Mean EMT energy of the model's minima above EMT's own [eV].
        start_excess_median: Median of the same energies of the starts, which one stray system does not move [eV].
        emt_excess_median: Median of the same energies of the model's minima [eV].
        same_minimum: How many of the model's minima lie less than `SAME_MINIMUM` above EMT's, or below.
        energy_mae: Mean absolute error of the predicted relaxed energies [eV].
        start_distance: Mean distance of free atoms at the start from EMT's minima [Å].
        distance: The same at the model's minima [Å].
    """

    systems: int
    converged: int
    start_excess: float
    emt_excess: float
    start_excess_median: float
    emt_excess_median: float
    same_minimum: int
    energy_mae: float
    start_distance: float
    distance: float


def summarise_relaxations(verdicts: Sequence[RelaxedSystem], fmax: float) -> RelaxationSummary:
    """Average over relaxations.

    Args:
        verdicts: How each ended.
        fmax: Threshold of convergence [eV/Å].

    Returns:
        The summary.

    Raises:
        ValueError: If there are none.
    """
    if not verdicts:
        raise ValueError("no relaxations to summarise")

    def mean(values: Sequence[float]) -> float:
        return float(np.mean(values))

    return RelaxationSummary(
        systems=len(verdicts),
        converged=sum(verdict.fmax <= fmax for verdict in verdicts),
        start_excess=mean([verdict.start_excess for verdict in verdicts]),
        emt_excess=mean([verdict.emt_excess for verdict in verdicts]),
        start_excess_median=float(np.median([verdict.start_excess for verdict in verdicts])),
        emt_excess_median=float(np.median([verdict.emt_excess for verdict in verdicts])),
        same_minimum=sum(verdict.emt_excess < SAME_MINIMUM for verdict in verdicts),
        energy_mae=mean([abs(verdict.predicted_error) for verdict in verdicts]),
        start_distance=mean([verdict.start_distance for verdict in verdicts]),
        distance=mean([verdict.distance for verdict in verdicts]),
    )


def error_table(comparison: S2EFComparison) -> Table:
    """Lay out the errors on held-out frames.

    Args:
        comparison: Labels and predictions.

    Returns:
        A table with a row each for energies and forces.
    """
    table = Table(title=f"Held-out frames: {len(comparison.sids)} of {len(set(comparison.sids))} systems")
    table.add_column("mean absolute error")
    for heading in ("EquiformerV2", "mean predictor", "ratio"):
        table.add_column(heading, justify="right")
    rows: tuple[tuple[str, TargetComparison], ...] = (
        ("adsorption energy [eV]", comparison.energy),
        ("force component, free atoms [eV/Å]", comparison.forces),
    )
    for name, target in rows:
        table.add_row(escape(name), f"{target.mae:.3f}", f"{target.mean_predictor_mae:.3f}", f"{target.ratio:.0%}")
    return table


def relaxation_table(summary: RelaxationSummary) -> Table:
    """Lay out how the relaxations went.

    Args:
        summary: Their averages.

    Returns:
        A table with columns for the starts and for the model's minima.
    """
    table = Table(title=f"Relaxations of {summary.systems} held-out systems, judged by EMT")
    table.add_column("")
    for heading in ("start", "EquiformerV2"):
        table.add_column(heading, justify="right")
    for average, start, end in (
        ("median", summary.start_excess_median, summary.emt_excess_median),
        ("mean", summary.start_excess, summary.emt_excess),
    ):
        table.add_row(escape(f"energy above EMT's minimum, {average} [eV]"), f"{start:.3f}", f"{end:.3f}")
    table.add_row(escape("distance from it, mean [Å]"), f"{summary.start_distance:.3f}", f"{summary.distance:.3f}")
    table.add_row(escape("predicted energy error, mean [eV]"), "", f"{summary.energy_mae:.3f}")
    table.add_row(
        f"within {SAME_MINIMUM} eV of EMT's minimum or below", "", f"{summary.same_minimum}/{summary.systems}"
    )
    table.add_row("converged", "", f"{summary.converged}/{summary.systems}")
    return table
