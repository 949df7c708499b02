"""The demo's figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from ev2_plugin.data.errors import S2EFComparison, TargetComparison
from ev2_plugin.data.training_log import LearningCurve
from ev2_plugin.demo.relaxations import RelaxationTrace

TRAINING_COLOR, VALIDATION_COLOR, QUIET_COLOR = "#1f77b4", "#d62728", "0.45"
DPI = 150


def save_learning_curves(
    path: Path, training: LearningCurve, validation: LearningCurve, comparison: S2EFComparison
) -> None:
    """Draw loss, energy error and force error over the epochs of training.

    Args:
        path: PNG to write.
        training: Training curve with `loss`, `energy_mae` and `forces_mae`.
        validation: Validation curve with the same.
        comparison: Gives the mean predictor's errors, drawn as dashed lines.
    """
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    panels = (
        ("loss", "loss", None),
        ("energy_mae", "energy MAE [eV]", comparison.energy.mean_predictor_mae),
        ("forces_mae", "force MAE [eV/Å]", comparison.forces.mean_predictor_mae),
    )
    for axes, (metric, name, baseline) in zip(figure.subplots(1, 3), panels, strict=True):
        axes.plot(training.epochs, training.metrics[metric], color=TRAINING_COLOR, label="training")
        axes.plot(
            validation.epochs,
            validation.metrics[metric],
            "o-",
            color=VALIDATION_COLOR,
            markersize=4,
            label="validation",
        )
        if baseline is not None:
            axes.axhline(baseline, color=QUIET_COLOR, linestyle="--", label="mean predictor")
        axes.set(xlabel="epoch", ylabel=name, yscale="log")
        _plain_log_ticks(axes)
        axes.grid(alpha=0.2)
        axes.legend(framealpha=0.9, edgecolor="none")
    figure.savefig(path, dpi=DPI)


def save_energy_parity(path: Path, comparison: S2EFComparison, adsorbates: Mapping[int, str]) -> None:
    """Draw predicted energies over their labels, one color per adsorbate.

    Args:
        path: PNG to write.
        comparison: Labels and predictions.
        adsorbates: Name of the adsorbate of each system.
    """
    figure = Figure(figsize=(5.4, 5), layout="constrained")
    axes = figure.subplots()
    names = np.array([adsorbates[int(sid)] for sid in comparison.sids])
    for name in sorted(set(names)):
        chosen = names == name
        axes.scatter(
            comparison.energy.labels[chosen],
            comparison.energy.predictions[chosen],
            s=14,
            alpha=0.7,
            linewidths=0,
            label=name,
        )
    _finish_parity(axes, comparison.energy, "adsorption energy", "eV")
    axes.legend(title="adsorbate", framealpha=0.9, edgecolor="none", loc="lower right", ncols=2)
    figure.savefig(path, dpi=DPI)


def save_force_parity(path: Path, comparison: S2EFComparison) -> None:
    """Draw predicted force components over their labels as a density.

    Args:
        path: PNG to write.
        comparison: Labels and predictions.
    """
    figure = Figure(figsize=(5.8, 5), layout="constrained")
    axes = figure.subplots()
    density = axes.hexbin(
        comparison.forces.labels, comparison.forces.predictions, gridsize=80, norm=LogNorm(), linewidths=0
    )
    figure.colorbar(density, label="force components per hexagon")
    _finish_parity(axes, comparison.forces, "force component", "eV/Å")
    figure.savefig(path, dpi=DPI)


def save_relaxations(path: Path, traces: Sequence[RelaxationTrace], fmax: float) -> None:
    """Draw how relaxations converge.

    Args:
        path: PNG to write.
        traces: Relaxations; each keeps its last value in the medians after it has ended.
        fmax: Threshold of convergence [eV/Å].
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    energy_axes, force_axes = figure.subplots(1, 2)
    for trace in traces:
        steps = np.arange(len(trace.fmax))
        energy_axes.plot(steps, trace.emt_excess, color=TRAINING_COLOR, alpha=0.35, linewidth=1)
        force_axes.plot(steps, trace.fmax, color=TRAINING_COLOR, alpha=0.35, linewidth=1)
    for axes, series in (
        (energy_axes, [trace.emt_excess for trace in traces]),
        (force_axes, [trace.fmax for trace in traces]),
    ):
        axes.plot(_median(series), color=VALIDATION_COLOR, linewidth=2, label=f"median of {len(traces)} systems")
        axes.set_xlabel("relaxation step")
        axes.grid(alpha=0.2)
    energy_axes.axhline(0.0, color=QUIET_COLOR, linestyle="--", label="EMT's minimum")
    energy_axes.set(ylabel="EMT energy above EMT's minimum [eV]", title="energy, by EMT")
    energy_axes.set_yscale("symlog", linthresh=0.1, subs=(2, 3, 5))
    energy_axes.yaxis.set_major_formatter("{x:g}")
    force_axes.axhline(fmax, color=QUIET_COLOR, linestyle="--", label=f"converged: {fmax} eV/Å")
    force_axes.set(ylabel="largest force on a free atom [eV/Å]", title="force, by the model", yscale="log")
    _plain_log_ticks(force_axes)
    for axes in (energy_axes, force_axes):
        axes.legend(framealpha=0.9, edgecolor="none")
    figure.savefig(path, dpi=DPI)


def _finish_parity(axes: Axes, target: TargetComparison, name: str, unit: str) -> None:
    low = min(target.labels.min(), target.predictions.min())
    high = max(target.labels.max(), target.predictions.max())
    margin = 0.04 * (high - low)
    limits = (low - margin, high + margin)
    axes.plot(limits, limits, color=QUIET_COLOR, linewidth=1, zorder=0)
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    axes.set(xlabel=f"EMT {name} [{unit}]", ylabel=f"predicted {name} [{unit}]")
    axes.text(
        0.04,
        0.96,
        f"MAE {target.mae:.3f} {unit}\nmean predictor {target.mean_predictor_mae:.3f} {unit}",
        transform=axes.transAxes,
        verticalalignment="top",
    )


def _median(series: Sequence[np.ndarray]) -> np.ndarray:
    longest = max(len(values) for values in series)
    return np.median([np.pad(values, (0, longest - len(values)), mode="edge") for values in series], axis=0)


def _plain_log_ticks(axes: Axes) -> None:
    """Write plain numbers on a logarithmic axis, several per decade: errors often span less than one."""
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
