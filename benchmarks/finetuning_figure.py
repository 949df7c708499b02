"""Learning curves of fine-tunings beside training from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ev2_plugin.finetuning.curves import plain_ticks

COLORS = ("#1f77b4", "#d62728", "#ff7f0e")
PANELS = {"energy_mae": "energy MAE [eV]", "forces_mae": "force MAE [eV/Å]"}


def draw(tasks: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw errors on the validation split over the steps.

    Args:
        tasks: Results by name.
        path: PNG to write.
    """
    figure = Figure(figsize=(10, 3.6 * len(tasks)), layout="constrained")
    grid = figure.subplots(len(tasks), len(PANELS), squeeze=False)
    for row, (name, result) in zip(grid, tasks.items(), strict=True):
        for axes, (metric, label) in zip(row, PANELS.items(), strict=True):
            for color, (run, found) in zip(COLORS, result["runs"].items(), strict=True):
                curve = found["curve"]
                axes.plot(curve["step"], curve[metric], "o-", color=color, markersize=3.5, label=run)
            axes.set(title=name, xlabel="step (batch of 4 structures)", ylabel=f"validation {label}", yscale="log")
            plain_ticks(axes)
            axes.grid(alpha=0.2)
            axes.legend(framealpha=0.9, edgecolor="none")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
