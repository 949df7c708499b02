"""Relaxations as their folders hold them: how each ended, and frames on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import Trajectory

from ev2_plugin.relax.folder import RUN
from ev2_plugin.relax.group import Relaxed
from ev2_plugin.relax.results import LINES, read_results
from ev2_plugin.storage.plain_files import read_json

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


@dataclass(frozen=True)
class Course:
    """Frames of a relaxation.

    Attributes:
        id: Of the structure.
        steps: Step of each frame.
        frames: At least one.
        energies: eV; None where a frame has none.
        forces: Largest force on a free atom, eV/Å; None where a frame has none.
    """

    id: str
    steps: tuple[int, ...]
    frames: tuple[Atoms, ...]
    energies: tuple[float | None, ...]
    forces: tuple[float | None, ...]


@dataclass(frozen=True)
class RelaxationFolder:
    """Relaxations of one folder.

    Attributes:
        ended: How they ended: first those that did not converge, and then by the largest force that is left.
        trajectories: Files by structure.
        fmax: Force at which they were to end, eV/Å; None if unknown.
    """

    ended: tuple[Ended, ...]
    trajectories: dict[str, Path]
    fmax: float | None


def read_relaxations(folder: Path, trajectories: Path | None = None, fmax: float | None = None) -> RelaxationFolder:
    """Read how relaxations ended.

    Args:
        folder: What `ev2 relax` or `--mode run-relaxations` worked in, or a folder of trajectories.
        trajectories: Folder of `<id>.traj`, where it is another one.
        fmax: Force at which relaxations were to end, eV/Å, where `folder` does not say it.

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
    return RelaxationFolder(tuple(ended), files, fmax)


def read_course(path: Path, ended: Ended) -> Course | None:
    """Read the frames of a relaxation; None if the file holds none."""
    with Trajectory(path) as file:
        frames = tuple(file)
    if not frames:
        return None
    # a run may have kept the ends alone
    steps = (0, ended.steps) if len(frames) == 2 else tuple(range(len(frames)))
    return Course(ended.id, steps, frames, tuple(map(_energy, frames)), tuple(map(_largest_force, frames)))


def _trajectory_files(folder: Path) -> Iterator[Path]:
    for pattern in _TRAJECTORIES:
        yield from sorted(folder.glob(pattern))


def _ended(one: Relaxed) -> Ended:
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


def _energy(atoms: Atoms) -> float | None:
    results = {} if atoms.calc is None else atoms.calc.results
    return float(results["energy"]) if "energy" in results else None


def _largest_force(atoms: Atoms) -> float | None:
    """Largest length of a force on an atom that may move."""
    if atoms.calc is None or "forces" not in atoms.calc.results:
        return None
    return float(np.linalg.norm(atoms.get_forces(), axis=1).max())
