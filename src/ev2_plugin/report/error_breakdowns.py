"""Averages of an evaluation, over all and by group, as parts of a report."""

from __future__ import annotations

from ev2_plugin.evaluation.breakdowns import Evaluation
from ev2_plugin.evaluation.definitions import DEFINITIONS
from ev2_plugin.evaluation.estimates import Estimate
from ev2_plugin.report.parts import BarPlot, Cell, Part, Plots, Section, Table

_GROUPINGS = (
    ("element", "element", ("forces_mae", "energy_mae")),
    ("force", "size of the true force", ("forces_mae", "forces_cosine")),
    ("adsorbate", "adsorbate", ("forces_mae", "energy_mae")),
)
_LISTED = ("adsorbate",)
"""There may be too many for bars."""


def metrics_table(evaluation: Evaluation) -> Table:
    """Lay out the averages over all structures."""
    rows = tuple(
        (_heading(name), _value(name, one), _standard_error(name, one), one.count, DEFINITIONS[name].text)
        for name, one in evaluation.metrics.items()
    )
    caption = f"{evaluation.structures:,} structures of {evaluation.systems:,} systems"
    return Table(caption, ("metric", "value", "standard error", "averaged over", "definition"), rows)


def breakdown_section(evaluation: Evaluation) -> Section:
    """Draw and list averages by element, by size of the true force and by adsorbate; groupings of one are left out."""
    parts: list[Part] = []
    for grouping, title, metrics in _GROUPINGS:
        groups = evaluation.breakdowns.get(grouping, {})
        names = [name for name in metrics if name in evaluation.metrics]
        if len(groups) < 2 or not names:
            continue
        if grouping not in _LISTED:
            parts.append(Plots(tuple(_bars(evaluation, grouping, title, name) for name in names)))
        rows = tuple(
            (
                group,
                *(cell for name in names for cell in _cells(name, estimates.get(name))),
            )
            for group, estimates in groups.items()
        )
        columns = (title, *(column for name in names for column in (_heading(name), "averaged over")))
        parts.append(Table(f"Errors by {title}", columns, rows, tall=len(rows) > 12))
    return Section("errors", "Errors by element and by force", tuple(parts))


def _bars(evaluation: Evaluation, grouping: str, title: str, name: str) -> BarPlot:
    groups = {group: found[name] for group, found in evaluation.breakdowns[grouping].items() if name in found}
    label = DEFINITIONS[name].label
    return BarPlot(
        id=f"by-{grouping}-{name}",
        title=f"{label[0].upper()}{label[1:]} by {title}",
        x_label=f"{title}; the line is the average over all",
        y_label=_heading(name),
        groups=tuple(groups),
        values=tuple(one.value for one in groups.values()),
        errors=tuple(one.standard_error for one in groups.values()),
        overall=evaluation.metrics[name].value,
    )


def _cells(name: str, one: Estimate | None) -> tuple[Cell, Cell]:
    return (None, None) if one is None else (_value(name, one), one.count)


def _heading(name: str) -> str:
    definition = DEFINITIONS[name]
    return definition.label if definition.unit == "1" else f"{definition.label} [{definition.unit}]"


def _value(name: str, one: Estimate) -> Cell:
    return f"{one.value:.2%}" if DEFINITIONS[name].is_share else one.value


def _standard_error(name: str, one: Estimate) -> Cell:
    if one.standard_error is None:
        return None
    return f"{one.standard_error:.2%}" if DEFINITIONS[name].is_share else one.standard_error
