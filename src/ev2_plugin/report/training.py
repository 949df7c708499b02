"""How a run learned: sections from its metrics."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from ev2_plugin.report.parts import Cell, Folded, Line, LinePlot, Note, Part, Plots, Role, Section, Table
from ev2_plugin.report.run_folder import Run
from ev2_plugin.storage.metrics_log import Entry, read_rows

MOST_POINTS = 2000
"""Of a curve; where more were logged, each point is the mean of several."""

_OF_OPTIMISER = ("lr", "grad_norm")
_NOT_A_CURVE = {"epoch", "batch_loss"}
_UNITS = {"energy_mae": "eV", "forces_mae": "eV/Å", "stress_mae": "eV/Å³"}
_TITLES = {
    "loss": "Loss",
    "lr": "Learning rate",
    "grad_norm": "Norm of the gradient",
    "energy_mae": "Energy error (MAE)",
    "forces_mae": "Force error (MAE)",
    "forces_cosine_similarity": "Cosine of forces",
}
_FIRST = ("loss", "energy_mae", "forces_mae")


def curve_sections(run: Run) -> list[Section]:
    """Learning curves, and what the optimiser did; sections without anything to show are left out.

    Raises:
        ValueError: If a line of the metrics that is not the last is damaged.
    """
    if not run.metrics.exists():
        return []
    rows = {split: list(read_rows(run.metrics, split)) for split in ("train", "val")}
    names = list(dict.fromkeys(name for split in rows.values() for row in split for name in row.values))
    curves = [name for name in names if name not in _OF_OPTIMISER and name not in _NOT_A_CURVE]
    curves.sort(key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
    first, others = [name for name in curves if name in _FIRST], [name for name in curves if name not in _FIRST]
    sections = []
    if curves:
        parts: list[Part] = [Plots(tuple(_plot(name, rows) for name in first or others))]
        if first and others:
            parts.append(Folded(f"other metrics: {len(others)}", (Plots(tuple(_plot(name, rows) for name in others)),)))
        parts.append(_last_values(curves, rows))
        parts += [Note(text) for text in _notes(curves, rows)]
        sections.append(Section("curves", "Learning curves", tuple(parts)))
    of_optimiser = [name for name in _OF_OPTIMISER if name in names]
    if of_optimiser:
        plots = Plots(tuple(_plot(name, rows) for name in of_optimiser))
        notes = [Note(text) for text in _notes(of_optimiser, rows)]
        sections.append(Section("optimiser", "Learning rate and gradient norm", (plots, *notes)))
    return sections


def _plot(name: str, rows: Mapping[str, list[Entry]]) -> LinePlot:
    kinds: tuple[tuple[str, str, Role], ...] = (
        ("train", "training", "training"),
        ("val", "validation", "validation"),
    )
    lines = tuple(
        _line(label, [(row.step, row.values[name]) for row in rows[split] if name in row.values], role)
        for split, label, role in kinds
        if any(name in row.values for row in rows[split])
    )
    values = [value for line in lines for value in line.y if value is not None]
    unit = f" [{_UNITS[name]}]" if name in _UNITS else ""
    return LinePlot(
        id=f"curve-{name}",
        title=_title(name),
        x_label="step (batches)",
        y_label=f"{_title(name).replace(' error (MAE)', ' MAE')}{unit}",
        lines=lines,
        log_y=bool(values) and min(values) > 0 and max(values) > 5 * min(values) and name != "lr",
    )


def _title(name: str) -> str:
    return _TITLES.get(name, name.replace("_", " "))


def _line(label: str, points: list[tuple[int, float]], role: Role) -> Line:
    steps, values = np.array([point[0] for point in points]), np.array([point[1] for point in points])
    width = -(-len(points) // MOST_POINTS)
    starts = np.arange(0, len(points), width)
    finite = np.isfinite(values)
    sums = np.add.reduceat(np.where(finite, values, 0.0), starts)
    counts = np.add.reduceat(finite.astype(int), starts)
    y = tuple(rounded(total / count) if count else None for total, count in zip(sums, counts, strict=True))
    return Line(label, tuple(steps[starts].tolist()), y, role, marks=len(starts) <= 60)


def rounded(value: float) -> float | None:
    """A number with the digits that a plot can show; None where it is not finite."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _last_values(names: list[str], rows: Mapping[str, list[Entry]]) -> Table:
    """Last and best value of each curve, for those who do not see the plots."""
    found: list[tuple[Cell, ...]] = []
    for name in names:
        for split, label in (("train", "training"), ("val", "validation")):
            values = [(row.values[name], row.step) for row in rows[split] if name in row.values]
            finite = [one for one in values if math.isfinite(one[0])]
            if finite:
                lowest, highest = min(finite), max(finite)
                found.append((name, label, finite[-1][0], finite[-1][1], lowest[0], lowest[1], highest[0], highest[1]))
    columns = ("metric", "split", "last", "at step", "lowest", "at step", "highest", "at step")
    return Table("The curves in numbers", columns, tuple(found))


def _notes(names: list[str], rows: Mapping[str, list[Entry]]) -> Iterator[str]:
    for name in names:
        values = [row.values[name] for split in rows.values() for row in split if name in row.values]
        lost = sum(not math.isfinite(value) for value in values)
        if lost:
            yield f"{name}: {lost:,} of {len(values):,} values are not finite; they are gaps in the curve."
    longest = max(len(split) for split in rows.values())
    if longest > MOST_POINTS:
        yield f"{longest:,} steps were logged: each point is the mean of {-(-longest // MOST_POINTS)} of them."
