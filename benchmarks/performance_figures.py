"""The result files as figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from performance_targets import figure as value_of
from performance_targets import name_of
from plain_ticks import plain_ticks

Result = Mapping[str, Any]
HOST_COLOR = "0.6"
COLORS = ("#1f77b4", "#2ca02c", "#ff7f0e", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#17becf", "#bcbd22", "#7f7f7f")
MOST_BARS = 40
UNITS = {"seconds": "time, s", "peak_mb": "peak memory on top of weights, MB"}


def _colors(ways: Sequence[str]) -> dict[str, str]:
    ours = [way for way in ways if not way.startswith("host")]
    hosts = [way for way in ways if way.startswith("host")]
    greys = [str(0.65 - 0.2 * i) for i in range(len(hosts))]
    return {**dict(zip(hosts, greys, strict=True)), **{way: COLORS[i % len(COLORS)] for i, way in enumerate(ours)}}


def _ways(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(way for row in rows for way in row["seconds"]))


def _save(picture: Figure, path: Path, result: Result) -> None:
    machine = result["machine"]
    picture.suptitle(f"{machine['device']}, torch {machine['torch']}, fairchem-core {machine['fairchem-core']}")
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(path, dpi=130, metadata={"Software": None})


def draw_inference_training(path: Path, result: Result) -> None:
    """Time and memory, inference and training, of every model and batch size, with ratios to the host's."""
    picture = Figure(figsize=(15, 9.5), layout="constrained")
    colors = _colors(_ways(result["rows"]))
    for column, (task, title) in enumerate((("inference", "inference"), ("training", "training step"))):
        rows = [row for row in result["rows"] if row["task"] == task]
        for line, quantity in enumerate(UNITS):
            axes = picture.add_subplot(2, 2, 1 + column + 2 * line)
            _compare(axes, rows, quantity, colors)
            axes.set_title(title)
    _common_legend(picture, colors)
    _save(picture, path, result)


def draw_latency(path: Path, result: Result) -> None:
    """Time of one structure per model."""
    picture = Figure(figsize=(8, 5.2), layout="constrained")
    axes, colors = picture.subplots(), _colors(_ways(result["rows"]))
    _compare(axes, result["rows"], "seconds", colors)
    axes.set_title("one structure, from positions to energy and forces")
    _common_legend(picture, colors)
    _save(picture, path, result)


def _common_legend(picture: Figure, colors: Mapping[str, str]) -> None:
    handles = {}
    for axes in picture.axes:
        handles.update(dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True)))
    shown, columns = [name for name in colors if name in handles], int(picture.get_figwidth() / 2.4)
    picture.legend([handles[name] for name in shown], shown, loc="outside lower center", ncols=columns, frameon=False)


def _compare(axes: Axes, rows: Sequence[Mapping[str, Any]], quantity: str, colors: Mapping[str, str]) -> None:
    """Bars with the ratios to the host's above them; dots without where the bars would be too many."""
    ways = [way for way in colors if any(way in row[quantity] for row in rows)]
    if len(ways) * len(rows) <= MOST_BARS:
        _bars(axes, rows, quantity, {way: colors[way] for way in ways})
    else:
        for way in ways:
            present = [(x, row) for x, row in enumerate(rows) if way in row[quantity]]
            values = [value_of(row, quantity, way) for _, row in present]
            axes.plot([x for x, _ in present], values, "o", color=colors[way], label=way, alpha=0.8)
    names = [name_of(row) for row in rows]
    if len(rows) > 6:
        axes.set_xticks(range(len(rows)), names, rotation=40, ha="right", fontsize=8)
    else:
        axes.set_xticks(range(len(rows)), [name.replace(", ", "\n") for name in names])
    axes.set(ylabel=UNITS[quantity], yscale="log")
    plain_ticks(axes.yaxis)
    axes.margins(y=0.12)
    axes.grid(axis="y", alpha=0.25)


def _bars(axes: Axes, rows: Sequence[Mapping[str, Any]], quantity: str, colors: Mapping[str, str]) -> None:
    width = 0.84 / max(len(colors), 1)
    for i, (way, color) in enumerate(colors.items()):
        present = [(x, row) for x, row in enumerate(rows) if way in row[quantity]]
        places = [x + (i - (len(colors) - 1) / 2) * width for x, _ in present]
        values = [value_of(row, quantity, way) for _, row in present]
        low, high = ([_extreme(row, quantity, way, key) for _, row in present] for key in ("low", "high"))
        errors = np.abs(np.array([low, high]) - values).tolist()
        axes.bar(places, values, width, color=color, label=way, yerr=errors, error_kw={"linewidth": 1})
        for place, value, top, (_, row) in zip(places, values, high, present, strict=True):
            if way != "host" and "host" in row[quantity]:
                axes.annotate(
                    f"{value_of(row, quantity, 'host') / value:.1f}×", (place, top), (0, 3),
                    textcoords="offset points", ha="center", va="bottom", fontsize=8, rotation=90 * (len(colors) > 4),
                )  # fmt: skip


def _extreme(row: Mapping[str, Any], quantity: str, way: str, key: str) -> float:
    """The lowest or highest sample; memory is measured once."""
    return row["seconds"][way][key] if quantity == "seconds" else row["peak_mb"][way]


def draw_growth(path: Path, result: Result) -> None:
    """Time and memory over the number of atoms."""
    picture = Figure(figsize=(12, 4.8), layout="constrained")
    for axes, quantity in zip(picture.subplots(1, 2), UNITS, strict=True):
        _curves(axes, result["rows"], quantity)
        axes.set_title("inference of one slab, 31M")
    _save(picture, path, result)


def draw_neighbors(path: Path, result: Result) -> None:
    """Time of the search over the number of atoms."""
    picture = Figure(figsize=(7, 4.8), layout="constrained")
    axes = picture.subplots()
    _curves(axes, result["rows"], "seconds")
    axes.set_title("neighbours within the cutoff")
    _save(picture, path, result)


def _curves(axes: Axes, rows: Sequence[Mapping[str, Any]], quantity: str) -> None:
    by_size = sorted(rows, key=lambda row: row["atoms"])
    for way, color in _colors(_ways(rows)).items():
        present = [row for row in by_size if way in row[quantity]]
        atoms = [row["atoms"] for row in present]
        axes.plot(atoms, [value_of(row, quantity, way) for row in present], "o-", color=color, label=way)
    axes.set(xscale="log", yscale="log", xlabel="atoms", ylabel=UNITS[quantity])
    plain_ticks(axes.xaxis)
    plain_ticks(axes.yaxis)
    axes.grid(alpha=0.25)
    axes.legend(framealpha=0.9, edgecolor="none")


def draw_operations(path: Path, result: Result) -> None:
    """How many times its floor each operation takes."""
    picture = Figure(figsize=(14, 5.2), layout="constrained")
    models = list(dict.fromkeys(row["model"] for row in result["rows"]))
    grid = picture.subplots(1, 2, sharey=True)
    for axes, backward in zip(grid, (False, True), strict=True):
        rows = [row for row in result["rows"] if row["backward"] == backward]
        ways = _ways(rows)
        width, colors = 0.84 / len(ways), _colors(ways)
        for i, way in enumerate(ways):
            places = np.arange(len(rows)) + (i - (len(ways) - 1) / 2) * width
            times = [row["seconds"][way]["median"] / row["floor_s"] for row in rows]
            bars = axes.bar(places, times, width, color=colors[way], label=way)
            axes.bar_label(bars, fmt="%.1f", fontsize=7, rotation=90, padding=2)
        names = [f"{row['operation']}" + (f" ({row['model']})" if len(models) > 1 else "") for row in rows]
        axes.set_xticks(range(len(rows)), names, rotation=40, ha="right", fontsize=8)
        axes.axhline(1, color="black", linewidth=1, linestyle="--")
        axes.set(title="forward and backward" if backward else "forward", yscale="log")
        plain_ticks(axes.yaxis)
        axes.margins(y=0.25)
        axes.grid(axis="y", alpha=0.25)
        axes.legend(framealpha=0.9, edgecolor="none", ncols=2)
    grid[0].set_ylabel("time / floor (dashed: the floor)")
    _save(picture, path, result)


def draw_table8(path: Path, result: Result) -> None:
    """Speed relative to the host's own for each architecture."""
    picture = Figure(figsize=(12, 5.2), layout="constrained")
    for axes, task in zip(picture.subplots(1, 2, sharey=True), ("inference", "training"), strict=True):
        rows = [row for row in result["rows"] if row["task"] == task]
        ways = [way for way in _ways(rows) if not way.startswith("host")]
        height = 0.84 / max(len(ways), 1)
        for i, way in enumerate(ways):
            present = [(y, row) for y, row in enumerate(rows) if {"host", way} <= set(row["seconds"])]
            ratios = [value_of(row, "seconds", "host") / value_of(row, "seconds", way) for _, row in present]
            places = [y + (i - (len(ways) - 1) / 2) * height for y, _ in present]
            bars = axes.barh(places, ratios, height, color=COLORS[i], label=way)
            axes.bar_label(bars, fmt="%.2f", fontsize=8, padding=3)
        axes.set_yticks(range(len(rows)), [row["row"] for row in rows])
        axes.axvline(1, color=HOST_COLOR, linewidth=1.5)
        axes.set(title="inference" if task == "inference" else "training step", xlabel="host's time / ours")
        axes.margins(x=0.12)
        axes.grid(axis="x", alpha=0.25)
    picture.axes[0].invert_yaxis()
    picture.axes[0].legend(loc="lower right", framealpha=0.9, edgecolor="none")
    _save(picture, path, result)
