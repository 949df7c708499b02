"""Relaxations: whether and how they converged, and trajectories to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ev2_plugin.report.parts import Beside, Cell, Line, LinePlot, Note, Part, Plots, Section, Show, Table, Viewer
from ev2_plugin.report.relaxed import Course, Ended, RelaxationFolder, read_course, read_relaxations
from ev2_plugin.report.structures import packed

VIEWER = "relaxations"
MOST_SHOWN, MOST_FRAMES, MOST_ROWS = 20, 50, 200


def relaxation_section(folder: Path, trajectories: Path | None = None, fmax: float | None = None) -> Section:
    """Show relaxations; arguments and errors as of `relaxed.read_relaxations`."""
    found = read_relaxations(folder, trajectories, fmax)
    courses = {
        one.id: course
        for one in [one for one in found.ended if one.id in found.trajectories][:MOST_SHOWN]
        if (course := read_course(found.trajectories[one.id], one)) is not None
    }
    parts: list[Part] = [Note(_summary(folder, found)), *_plots(found, courses)]
    table = _table(found.ended, set(courses))
    if courses:
        viewer = Viewer(VIEWER, "Trajectories", {name: _packed(one) for name, one in courses.items()})
        parts.append(Beside((viewer,), (table,)))
    else:
        parts += [table, Note("No trajectories were found; ev2 relax keeps them with --trajectories.")]
    return Section("relaxations", "Relaxations", tuple(parts))


def _summary(folder: Path, found: RelaxationFolder) -> str:
    ended, fmax = found.ended, found.fmax
    steps = np.array([one.steps for one in ended])
    counts = f"{folder}: {len(ended):,} relaxations, {np.median(steps):g} steps in the median, {steps.max()} at most."
    if fmax is None:
        return f"{counts} Nothing says at which force they were to end."
    converged = sum(one.converged is True for one in ended)
    return f"{counts} {converged:,} converged to forces below {fmax:g} eV/Å, {len(ended) - converged:,} did not."


def _plots(found: RelaxationFolder, courses: dict[str, Course]) -> list[Part]:
    plots, fmax = [], found.fmax
    forces = tuple(line for one in courses.values() if (line := _line(one, one.forces)) is not None)
    energies = tuple(line for one in courses.values() if (line := _line(one, _relative(one.energies))) is not None)
    if forces:
        level = None if fmax is None else (fmax, f"converged below {fmax:g} eV/Å")
        title = "Largest force along relaxations"
        plots.append(LinePlot("relaxation-fmax", title, "step", "largest force [eV/Å]", forces, True, level, VIEWER))
    if energies:
        title = "Energy along relaxations"
        plots.append(LinePlot("relaxation-energy", title, "step", "energy - first [eV]", energies, viewer=VIEWER))
    steps = sorted(one.steps for one in found.ended if one.converged)
    if steps:
        x, counts = np.unique(steps, return_counts=True)
        line = Line(
            "converged", (0, *x.tolist()), (0.0, *(100 * counts.cumsum() / len(found.ended)).tolist()), "accent"
        )
        plots.append(LinePlot("relaxation-converged", "Share converged", "steps", "relaxations [%]", (line,)))
    return [Plots(tuple(plots))] if plots else []


def _line(one: Course, values: tuple[float | None, ...]) -> Line | None:
    if not any(value is not None for value in values):
        return None
    return Line(
        one.id, one.steps, tuple(None if value is None else round(value, 5) for value in values), structure=one.id
    )


def _relative(energies: tuple[float | None, ...]) -> tuple[float | None, ...]:
    first = energies[0]
    return tuple(None if value is None or first is None else value - first for value in energies)


def _table(ended: Sequence[Ended], shown: set[str]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            Show(VIEWER, one.id, one.id) if one.id in shown else one.id,
            one.steps,
            one.fmax,
            one.energy_change,
            "unknown" if one.converged is None else "yes" if one.converged else "no",
        )
        for one in ended[:MOST_ROWS]
    ]
    count = f"{len(ended):,}" if len(ended) <= MOST_ROWS else f"{MOST_ROWS} of {len(ended):,}, largest forces first"
    columns = ("structure", "steps", "largest force [eV/Å]", "energy change [eV]", "converged")
    return Table(f"Relaxations: {count}", columns, tuple(rows), tall=True)


def _packed(one: Course) -> dict[str, Any]:
    keep = np.unique(np.linspace(0, len(one.frames) - 1, MOST_FRAMES).round().astype(int)).tolist()
    texts = []
    for place in keep:
        energy, force = one.energies[place], one.forces[place]
        said = [f"{one.id}, {len(one.frames[0])} atoms, step {one.steps[place]} of {one.steps[-1]}"]
        said += [] if energy is None else [f"energy {energy:.4f} eV"]
        said += [] if force is None else [f"largest force {force:.4f} eV/Å"]
        texts.append(", ".join(said))
    return packed([one.frames[place] for place in keep], texts)
