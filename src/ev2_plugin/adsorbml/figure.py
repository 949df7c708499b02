"""Success rate over speed-up, one point per k."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from ev2_plugin.adsorbml.published import PublishedModel
from ev2_plugin.adsorbml.success_rate import Scores

OWN_COLOR = "#d62728"
PUBLISHED_COLORS = ["#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"]
PUBLISHED_MARKERS = "sD^vPX*<>"
DPI = 150


def save_success_figure(
    path: Path, scores: Scores, name: str = "this campaign", published: Sequence[PublishedModel] = ()
) -> None:
    """Draw success rates over speed-ups by electronic steps, as in the AdsorbML paper.

    Args:
        path: PNG to write.
        scores: Of a campaign; a k whose single points took no steps has no speed-up and no point.
        name: Of the campaign, for the legend.
        published: Models to draw for comparison. Their systems are those of OC20-Dense.
    """
    figure = Figure(figsize=(8.2 if published else 6.4, 4.6), layout="constrained")
    axes = figure.subplots()
    for model, color, marker in zip(published, cycle(PUBLISHED_COLORS), cycle(PUBLISHED_MARKERS), strict=False):
        axes.plot(
            model.speedups,
            model.success_rates,
            marker=marker,
            color=color,
            markersize=4,
            linewidth=1,
            alpha=0.8,
            label=model.name,
        )
    points = [(one.k, one.scf_speedup, 100 * one.success_rate) for one in scores.top_k if one.scf_speedup is not None]
    axes.plot(
        [speedup for _, speedup, _ in points],
        [rate for _, _, rate in points],
        marker="o",
        color=OWN_COLOR,
        label=f"{name} ({scores.systems} systems)",
    )
    for k, speedup, rate in points:
        axes.annotate(f"k={k}", (speedup, rate), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=8)
    axes.set(xlabel="speed-up (SCF steps)", ylabel="success rate [%]", ylim=(0, 109))
    if points or published:
        _logarithmic(axes)  # which an axis without any point cannot be
    axes.grid(alpha=0.2)
    axes.margins(x=0.08)
    figure.legend(loc="outside right center" if published else "outside upper center", frameon=False, fontsize=8)
    figure.savefig(path, dpi=DPI)


def _logarithmic(axes: Axes) -> None:
    """Plain numbers on the axis, several per decade: five values of k span less than one."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
