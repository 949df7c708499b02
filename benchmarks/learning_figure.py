"""The figure of the learning benchmark, drawn from its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plain_ticks import plain_ticks

COLORS = ("#1f77b4", "#d62728", "#2ca02c")
QUIET_COLOR = "0.45"
PANELS = (2, 3)


def draw(path: Path, results: Mapping[str, Any]) -> None:
    """Draw one panel per task, the losses of S2EF beside the host's, and their differences.

    Args:
        path: PNG to write.
        results: What `learning.measure` returns.
    """
    figure = Figure(figsize=(12, 7), layout="constrained")
    axes = figure.subplots(*PANELS).flatten()
    for one, task in zip(axes, results["tasks"].values(), strict=False):
        _errors(one, task)
    _losses(axes[4], results["host_comparison"])
    _differences(axes[5], results["host_comparison"])
    for one in axes:
        one.set(xlabel="optimiser step", xlim=(0, None))
        one.grid(alpha=0.2)
        one.legend(framealpha=0.9, edgecolor="none", fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _errors(axes: Axes, task: Mapping[str, Any]) -> None:
    first_of_metric = {target["metric"]: target for target in reversed(task["targets"])}
    targets = [target for target in task["targets"] if target is first_of_metric[target["metric"]]]
    for color, target in zip(COLORS, targets, strict=False):  # fewer targets than colours
        shares = [value / target["baseline_error"] for value in target["curve"]["values"]]
        final = f"{target['final_error']:.2g} {target['unit']} ({100 * shares[-1]:.2g} %)"
        label = f"{target['label']}: {final}"
        axes.plot(target["curve"]["steps"], shares, ".-", color=color, label=label, markersize=4)
    axes.axhline(0.1, color=QUIET_COLOR, linestyle="--", linewidth=1)
    axes.set(title=task["title"], ylabel="training error / mean predictor's", yscale="log")
    plain_ticks(axes.yaxis)


def _losses(axes: Axes, comparison: Mapping[str, Any]) -> None:
    losses = comparison["losses"]
    axes.plot(
        losses["host"]["steps"], losses["host"]["values"], color=QUIET_COLOR, linewidth=4, alpha=0.6, label="host"
    )
    axes.plot(losses["ours"]["steps"], losses["ours"]["values"], color=COLORS[0], linewidth=1, label="ours")
    axes.set(title="S2EF: loss of each batch", ylabel="loss (of normalised labels)", yscale="log")
    plain_ticks(axes.yaxis)


def _differences(axes: Axes, comparison: Mapping[str, Any]) -> None:
    names = {
        "host, other turns - host": "host with other turns, from host",
        "ours - host": "ours, from host",
        "ours - host, our turn": "ours, from host with our turn",
    }
    for color, (pair, label) in zip((QUIET_COLOR, *COLORS), names.items(), strict=False):
        curve = comparison["differences"][pair]["curve"]
        axes.plot(curve["steps"], curve["values"], color=color, linewidth=1, label=label)
    axes.set(title="S2EF: difference of losses", ylabel="relative difference", yscale="log")
