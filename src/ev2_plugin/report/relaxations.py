"""Relaxations: whether and how they converged, and trajectories to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import Trajectory

from ev2_plugin.relax.folder import RUN
from ev2_plugin.relax.results import LINES, read_results
from ev2_plugin.report.parts import Beside, Cell, Line, LinePlot, Note, Part, Plots, Section, Show, Table, Viewer
from ev2_plugin.report.structures import packed
from ev2_plugin.storage.plain_files import read_json

VIEWER = "relaxations"
MOST_SHOWN, MOST_FRAMES, MOST_ROWS = 20, 50, 200
_RESULTS = (LINES, f"part-*/{LINES}", f"relaxations/part-*/{LINES}")  # alone, of the processes of a run
_TRAJECTORIES = ("*.traj", "trajectories/*.traj", "part-*/trajectories/*.traj")


@dataclass(frozen=True)
class Ended:
    """How a relaxation ended.

    Attributes:
        id: Of the structure.
        steps: Of the optimiser.
        fmax: Largest force on a free atom, eV/Å; None if nothing says it.
        energy_change: From the first structure to the last, eV; None if nothing says it.
        converged: None if no threshold is known.
    """

    id: str
    steps: int
    fmax: float | None
    energy_change: float | None
    converged: bool | None


def relaxation_section(folder: Path, trajectories: Path | None = None, fmax: float | None = None) -> Section:
    """Show relaxations.

    Args:
        folder: What `ev2 relax` or `--mode run-relaxations` worked in, or a folder of trajectories.
        trajectories: Folder of `<id>.traj`, where it is another one.
        fmax: Force at which relaxations ended, eV/Å, where `folder` does not say it.

    Raises:
        FileNotFoundError: If a folder does not exist.
        ValueError: If it holds no relaxations, or they are damaged.
    """
    for path in (folder, trajectories):
        if path is not None and not path.is_dir():
            raise FileNotFoundError(f"{path} is no folder of relaxations")
    files = {path.stem: path for path in _trajectory_files(folder if trajectories is None else trajectories)}
    works = [path.parent for pattern in _RESULTS for path in sorted(folder.glob(pattern))]
    if works:
        ended = [_ended(one) for work in works for one in read_results(work)]
        fmax = read_json(works[0] / RUN).get("fmax", fmax)
    else:
        ended = [one for name, path in files.items() if (one := _ended_trajectory(name, path, fmax)) is not None]
    if not ended:
        raise ValueError(f"{folder} holds no relaxations: neither {LINES} nor trajectories, <id>.traj")
    ended.sort(key=lambda one: (one.converged is not False, -(one.fmax or 0.0), one.id))
    shown = {
        one.id: found
        for one in [one for one in ended if one.id in files][:MOST_SHOWN]
        if (found := _read(files[one.id], one)) is not None
    }
    parts: list[Part] = [Note(_summary(folder, ended, fmax)), *_plots(ended, shown, fmax)]
    table = _table(ended, set(shown))
    if shown:
        viewer = Viewer(VIEWER, "Trajectories", {name: one.packed() for name, one in shown.items()})
        parts.append(Beside((viewer,), (table,)))
    else:
        parts.append(table)
        parts.append(Note("No trajectories were found; ev2 relax keeps them with --trajectories."))
    return Section("relaxations", "Relaxations", tuple(parts))


@dataclass(frozen=True)
class _Path:
    """Frames of a relaxation; energies in eV and largest forces in eV/Å are None where frames have none."""

    id: str
    steps: tuple[int, ...]
    frames: tuple[Atoms, ...]
    energies: tuple[float | None, ...]
    forces: tuple[float | None, ...]

    def packed(self) -> dict[str, Any]:
        keep = np.unique(np.linspace(0, len(self.frames) - 1, MOST_FRAMES).round().astype(int)).tolist()
        texts = []
        for place in keep:
            energy, force = self.energies[place], self.forces[place]
            said = [f"{self.id}, {len(self.frames[0])} atoms, step {self.steps[place]} of {self.steps[-1]}"]
            said += [] if energy is None else [f"energy {energy:.4f} eV"]
            said += [] if force is None else [f"largest force {force:.4f} eV/Å"]
            texts.append(", ".join(said))
        return packed([self.frames[place] for place in keep], texts)


def _trajectory_files(folder: Path) -> Iterator[Path]:
    for pattern in _TRAJECTORIES:
        yield from sorted(folder.glob(pattern))


def _ended(one: Any) -> Ended:
    return Ended(one.id, one.steps, one.fmax, one.energy - one.initial_energy, one.converged)


def _ended_trajectory(name: str, path: Path, fmax: float | None) -> Ended | None:
    with Trajectory(path) as frames:
        if len(frames) == 0:
            return None
        first, last, steps = frames[0], frames[-1], len(frames) - 1
    start, end, force = _energy(first), _energy(last), _largest_force(last)
    change = None if start is None or end is None else end - start
    converged = None if fmax is None or force is None else force <= fmax
    return Ended(name, steps, force, change, converged)


def _read(path: Path, ended: Ended) -> _Path | None:
    with Trajectory(path) as file:
        frames = tuple(file)
    if not frames:
        return None
    # a run may have kept the ends alone
    steps = (0, ended.steps) if len(frames) == 2 else tuple(range(len(frames)))
    return _Path(ended.id, steps, frames, tuple(map(_energy, frames)), tuple(map(_largest_force, frames)))


def _energy(atoms: Atoms) -> float | None:
    results = {} if atoms.calc is None else atoms.calc.results
    return float(results["energy"]) if "energy" in results else None


def _largest_force(atoms: Atoms) -> float | None:
    """Largest length of a force on an atom that may move."""
    if atoms.calc is None or "forces" not in atoms.calc.results:
        return None
    return float(np.linalg.norm(atoms.get_forces(), axis=1).max())


def _summary(folder: Path, ended: Sequence[Ended], fmax: float | None) -> str:
    steps = np.array([one.steps for one in ended])
    counts = f"{folder}: {len(ended):,} relaxations, {np.median(steps):g} steps in the median, {steps.max()} at most."
    if fmax is None:
        return f"{counts} Nothing says at which force they were to end."
    converged = sum(one.converged is True for one in ended)
    return f"{counts} {converged:,} converged to forces below {fmax:g} eV/Å, {len(ended) - converged:,} did not."


def _plots(ended: Sequence[Ended], shown: dict[str, _Path], fmax: float | None) -> list[Part]:
    plots = []
    forces = tuple(line for one in shown.values() if (line := _line(one, one.forces)) is not None)
    energies = tuple(line for one in shown.values() if (line := _line(one, _relative(one.energies))) is not None)
    if forces:
        level = None if fmax is None else (fmax, f"converged below {fmax:g} eV/Å")
        title = "Largest force along relaxations"
        plots.append(LinePlot("relaxation-fmax", title, "step", "largest force [eV/Å]", forces, True, level, VIEWER))
    if energies:
        title = "Energy along relaxations"
        plots.append(LinePlot("relaxation-energy", title, "step", "energy - first [eV]", energies, viewer=VIEWER))
    steps = sorted(one.steps for one in ended if one.converged)
    if steps:
        x, counts = np.unique(steps, return_counts=True)
        line = Line("converged", (0, *x.tolist()), (0.0, *(100 * counts.cumsum() / len(ended)).tolist()), "accent")
        plots.append(LinePlot("relaxation-converged", "Share converged", "steps", "relaxations [%]", (line,)))
    return [Plots(tuple(plots))] if plots else []


def _line(one: _Path, values: tuple[float | None, ...]) -> Line | None:
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
