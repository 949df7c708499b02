"""The averages of an evaluation as tables for the terminal."""

from __future__ import annotations

from rich import box
from rich.markup import escape
from rich.table import Table

from ev2_plugin.evaluation.breakdowns import Evaluation
from ev2_plugin.evaluation.definitions import DEFINITIONS

MOST_ROWS = 20
SHOWN = (
    "energy_mae",
    "forces_mae",
    "forces_cosine",
    "energy_forces_within_threshold",
    "distance",
    "average_distance_within_threshold",
    "largest_force",
    "average_force_below_threshold",
)
"""Averages that breakdowns show: as many as fit a terminal; metrics.json has all."""

_COUNTED_BY = {"energy_mae": "structures", "distance": "structures", "forces_cosine": "atoms"}


def metrics_table(evaluation: Evaluation) -> Table:
    """Lay out the averages over all structures."""
    table = Table(title=f"{evaluation.structures:,} {evaluation.subject} of {evaluation.systems:,} systems")
    table.add_column("")
    for heading in ("value", "standard error", "averaged over"):
        table.add_column(heading, justify="right")
    for name, one in evaluation.metrics.items():
        error = "" if one.standard_error is None else _number(name, one.standard_error)
        table.add_row(escape(" ".join(_heading(name))), _number(name, one.value), error, f"{one.count:,}")
    return table


def breakdown_table(evaluation: Evaluation, grouping: str) -> Table:
    """Lay out the averages by group: ranges in their order, others largest first, the first few of many.

    Args:
        evaluation: The averages.
        grouping: A key of its breakdowns.
    """
    groups = evaluation.breakdowns[grouping]
    counted = next(name for name in _COUNTED_BY if all(name in estimates for estimates in groups.values()))
    rows = list(groups.items())
    if grouping in ("element", "adsorbate"):
        rows.sort(key=lambda row: -row[1][counted].count)
    title = f"by {grouping}" if len(rows) <= MOST_ROWS else f"by {grouping}: {MOST_ROWS} of {len(rows)}"
    table = Table(title=title, box=box.SIMPLE)
    table.add_column(grouping)
    table.add_column(_COUNTED_BY[counted], justify="right")
    names = [name for name in SHOWN if any(name in estimates for estimates in groups.values())]
    for name in names:
        table.add_column(escape("\n".join(_heading(name)).replace(" ", "\n")), justify="right", no_wrap=True)
    for label, estimates in rows[:MOST_ROWS]:
        values = [_number(name, estimates[name].value) if name in estimates else "" for name in names]
        table.add_row(escape(label), f"{estimates[counted].count:,}", *values)
    return table


def _heading(name: str) -> tuple[str, ...]:
    definition = DEFINITIONS[name]
    return (definition.label,) if definition.unit == "1" else (definition.label, f"[{definition.unit}]")


def _number(name: str, value: float) -> str:
    return f"{value:.2%}" if DEFINITIONS[name].is_share else f"{value:.4f}"
