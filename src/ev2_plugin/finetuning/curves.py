"""Learning curves of a fine-tuning."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from ev2_plugin.storage.metrics_log import read_rows

TRAINING, VALIDATION = "#1f77b4", "#d62728"
PANELS = {"loss": "loss", "energy_mae": "energy MAE [eV]", "forces_mae": "force MAE [eV/Å]"}


def save_curves(log: Path, *paths: Path) -> None:
    """Draw loss and errors over the epochs, of training and validation.

    Args:
        log: `metrics.jsonl` of the run.
        paths: Files to write, PNG or SVG.
    """
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    for axes, (metric, label) in zip(figure.subplots(1, 3), PANELS.items(), strict=True):
        for split, color, style in (("train", TRAINING, "-"), ("val", VALIDATION, "o-")):
            rows = [row for row in read_rows(log, split) if metric in row.values and row.epoch is not None]
            epochs, values = [row.epoch for row in rows], [row.values[metric] for row in rows]
            axes.plot(epochs, values, style, color=color, markersize=4, label=_NAMES[split])
        axes.set(xlabel="epoch", ylabel=label, yscale="log")
        plain_ticks(axes)
        axes.grid(alpha=0.2)
        axes.legend(framealpha=0.9, edgecolor="none")
    for path in paths:
        figure.savefig(path, dpi=150)


_NAMES = {"train": "training", "val": "validation"}


def plain_ticks(axes: Axes) -> None:
    """Write plain numbers on a logarithmic axis."""
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
