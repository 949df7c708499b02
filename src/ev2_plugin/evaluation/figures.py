"""Figures of an evaluation: parity, thresholds, errors by group."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ev2_plugin.evaluation.breakdowns import Evaluation, Groups
from ev2_plugin.evaluation.definitions import DEFINITIONS
from ev2_plugin.evaluation.estimates import Estimate
from ev2_plugin.evaluation.thresholds import share_below

DPI = 150
MOST_POINTS = 2000  # more are drawn as a density
CENTRAL = (0.05, 99.95)  # percentiles that a density shows: a few far values would leave it a speck
COLOR, QUIET_COLOR = "#1f77b4", "0.45"


def save_parity(
    path: Path,
    labels: Float[np.ndarray, " values"],
    predictions: Float[np.ndarray, " values"],
    *,
    quantity: str,
    unit: str,
    members: str,
) -> None:
    """Draw predictions over labels: points, or a density of many.

    Args:
        path: PNG to write.
        labels: Reference values.
        predictions: The model's values.
        quantity: What they are, for the axes.
        unit: Of both.
        members: What the values belong to, for the color bar.
    """
    figure = Figure(figsize=(5.9, 5), layout="constrained")
    axes = figure.subplots()
    both = np.concatenate([labels, predictions])
    many = len(labels) > MOST_POINTS
    low, high = np.percentile(both, CENTRAL) if many else (both.min(), both.max())
    margin = 0.04 * (high - low) or 1.0
    low, high = low - margin, high + margin
    inside = (labels >= low) & (labels <= high) & (predictions >= low) & (predictions <= high)
    if many:
        density = axes.hexbin(
            labels[inside],
            predictions[inside],
            gridsize=90,
            extent=(low, high, low, high),
            norm=LogNorm(),
            mincnt=1,
            linewidths=0,
        )
        figure.colorbar(density, label=f"{members} per hexagon")
    else:
        axes.scatter(labels, predictions, s=14, alpha=0.6, linewidths=0, color=COLOR)
    axes.plot((low, high), (low, high), color=QUIET_COLOR, linewidth=1, zorder=1 if many else 0)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set(xlabel=f"reference {quantity} [{unit}]", ylabel=f"predicted {quantity} [{unit}]")
    lines = [f"MAE {np.abs(predictions - labels).mean():.4g} {unit}", f"{len(labels):,} {members}"]
    if not inside.all():
        lines.append(f"{int((~inside).sum()):,} outside")
    axes.text(0.04, 0.96, "\n".join(lines), transform=axes.transAxes, verticalalignment="top")
    figure.savefig(path, dpi=DPI)


def save_thresholds(
    path: Path,
    values: Float[np.ndarray, " structures"],
    thresholds: Float[np.ndarray, " thresholds"],
    *,
    score: str,
    quantity: str,
    unit: str,
) -> None:
    """Draw the share of structures below each threshold; its mean height is the score.

    Args:
        path: PNG to write.
        values: One per structure.
        thresholds: In ascending order.
        score: Name of the mean.
        quantity: What the values are, for the axis.
        unit: Of values and thresholds.
    """
    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    axes = figure.subplots()
    shares = share_below(values, thresholds)
    axes.plot(thresholds, shares, color=COLOR)
    axes.fill_between(thresholds, shares, color=COLOR, alpha=0.15, linewidth=0)
    mean = float(shares.mean())
    axes.axhline(mean, color=QUIET_COLOR, linestyle="--", linewidth=1)
    above = mean < 0.9
    axes.annotate(
        f"{score} {mean:.1%}",
        (thresholds[0], mean),
        xytext=(4, 3 if above else -3),
        textcoords="offset points",
        verticalalignment="bottom" if above else "top",
    )
    axes.set(xlim=(0.0, thresholds[-1]), ylim=(0.0, 1.0))
    axes.set(xlabel=f"threshold of the {quantity} [{unit}]", ylabel=f"structures below it, of {len(values):,}")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(alpha=0.2)
    figure.savefig(path, dpi=DPI)


def save_by_element(path: Path, evaluation: Evaluation, metrics: Sequence[str]) -> None:
    """Draw averages by element, with one standard error either way, above each other.

    Args:
        path: PNG to write.
        evaluation: Its breakdown by element, and the averages over all as dashed lines.
        metrics: Which averages, by the names in `definitions.DEFINITIONS`.
    """
    groups = evaluation.breakdowns["element"]
    width = max(5.5, 1.6 + 0.27 * len(groups))
    figure = Figure(figsize=(width, 0.4 + 2.4 * len(metrics)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(len(metrics), 1, sharex=True))
    places = np.arange(len(groups))
    for axes, metric in zip(panels, metrics, strict=True):
        values, errors = _columns(groups, metric)
        axes.bar(places, values, yerr=errors, color=COLOR, alpha=0.75, error_kw={"linewidth": 1})
        axes.axhline(evaluation.metrics[metric].value, color=QUIET_COLOR, linestyle="--", linewidth=1)
        axes.set(ylabel=_axis(metric), xlim=(-0.7, len(groups) - 0.3), ylim=(0.0, _top(values, errors)))
        axes.grid(alpha=0.2, axis="y")
    panels[-1].set_xticks(places, list(groups))
    panels[-1].set_xlabel("element; the dashed line is the average over all")
    figure.savefig(path, dpi=DPI)


def save_by_adsorbate(path: Path, evaluation: Evaluation, metrics: Sequence[str]) -> None:
    """Draw averages by adsorbate, with one standard error either way, side by side and sorted by the first.

    Args:
        path: PNG to write.
        evaluation: Its breakdown by adsorbate, and the averages over all as dashed lines.
        metrics: Which averages, by the names in `definitions.DEFINITIONS`.
    """
    found = evaluation.breakdowns["adsorbate"]
    groups = dict(sorted(found.items(), key=lambda item: item[1][metrics[0]].value))
    figure = Figure(figsize=(1.6 + 3.6 * len(metrics), max(2.2, 1.0 + 0.2 * len(groups))), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(metrics), sharey=True))
    places = np.arange(len(groups))
    for axes, metric in zip(panels, metrics, strict=True):
        values, errors = _columns(groups, metric)
        axes.barh(places, values, xerr=errors, color=COLOR, alpha=0.75, error_kw={"linewidth": 1})
        axes.axvline(evaluation.metrics[metric].value, color=QUIET_COLOR, linestyle="--", linewidth=1)
        axes.set(xlabel=_axis(metric), ylim=(-0.7, len(groups) - 0.3), xlim=(0.0, _top(values, errors)))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(alpha=0.2, axis="x")
    counts = [estimates[metrics[0]].count for estimates in groups.values()]
    panels[0].set_yticks(places, [f"{name}  ({count:,})" for name, count in zip(groups, counts, strict=True)])
    panels[0].set_ylabel("adsorbate (structures)")
    figure.savefig(path, dpi=DPI)


def _columns(groups: Groups, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Values and standard errors; an element without free atoms has no force error and gets no bar."""
    missing = Estimate(np.nan, None, 0, 0)
    estimates = [members.get(metric, missing) for members in groups.values()]
    return (
        np.array([one.value for one in estimates]),
        np.array([0.0 if one.standard_error is None else one.standard_error for one in estimates]),
    )


def _top(values: np.ndarray, errors: np.ndarray) -> float:
    """Upper end of an axis: room for every bar, and for error bars that do not dwarf them."""
    return 1.05 * min(float(np.nanmax(values + errors)), 2 * float(np.nanmax(values))) or 1.0


def _axis(metric: str) -> str:
    definition = DEFINITIONS[metric]
    return definition.label if definition.unit == "1" else f"{definition.label} [{definition.unit}]"
