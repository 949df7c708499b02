"""Where a split's arrays come from: prediction files, folders of relaxations, folders of trajectories."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase.io.trajectory import Trajectory

from ev2_plugin.submission.archive import open_archive
from ev2_plugin.submission.layout import TaskLayout
from ev2_plugin.submission.split_check import chunk_lengths

LINES, POSITIONS, RUN = "relaxed.jsonl", "relaxed.positions", "run.json"
BYTES_PER_ATOM = 24  # three float64

Arrays = dict[str, np.ndarray]


def read_source(path: Path, layout: TaskLayout, hybrid: bool = False) -> tuple[Arrays, list[str]]:
    """Read what a source holds of a split.

    Args:
        path: A file of predictions or relaxed positions (.npz), a folder that a relaxation wrote, or a folder of
            .traj files named after their systems.
        layout: What the task asks for.
        hybrid: The file is one of S2EF predictions at relaxed structures: ids lose their frame.

    Returns:
        Arrays by key, and what is worth knowing about them.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If it cannot be read, is not finished, or does not serve the task.
    """
    if hybrid and (layout.name != "is2re" or path.is_dir()):
        raise ValueError(f"{path}: hybrid means relaxed energies (is2re) from an .npz file of S2EF predictions")
    if not path.is_dir():
        return _from_archive(path, layout, hybrid), []
    if (path / LINES).is_file():
        return _from_relaxations(path, layout)
    trajectories = sorted(path.glob("*.traj"), key=lambda file: file.stem)
    if not trajectories:
        raise ValueError(f"{path} holds neither {LINES} nor .traj files")
    if layout.name != "is2re":
        raise ValueError(f"{path}: trajectories serve is2re; {layout.name} needs an .npz file or a relaxation's folder")
    return _from_trajectories(path, trajectories), []


def join_parts(parts: Sequence[Arrays], layout: TaskLayout) -> Arrays:
    """Put the arrays of several sources together, sorted by id: which place each had in the data set is not known.

    Args:
        parts: Arrays without faults.
        layout: Their layout.
    """
    ids = np.concatenate([part["ids"] for part in parts])
    order = np.argsort(ids, kind="stable")
    joined = {"ids": ids[order]}
    if layout.has_energy:
        joined["energy"] = np.concatenate([part["energy"] for part in parts])[order]
    if layout.per_atom:
        blocks = [block for part in parts for block in np.split(part[layout.per_atom], part["chunk_idx"])]
        lengths = [chunk_lengths(part["chunk_idx"], len(part[layout.per_atom])) for part in parts]
        joined[layout.per_atom] = np.concatenate([blocks[place] for place in order])
        joined["chunk_idx"] = np.cumsum(np.concatenate(lengths)[order])[:-1]
    return joined


def _from_archive(path: Path, layout: TaskLayout, hybrid: bool) -> Arrays:
    with open_archive(path) as archive:
        arrays = {key: archive.read(key) for key in layout.keys if key in archive.names}
    energy = arrays.get("energy")
    if energy is not None and energy.ndim == 2 and energy.shape[1] == 1:
        arrays["energy"] = energy[:, 0]  # fairchem 1.10 keeps the model's trailing axis
    if hybrid and "ids" in arrays:
        arrays["ids"] = np.array([str(name).split("_")[0] for name in arrays["ids"]])
    return arrays


def _from_relaxations(folder: Path, layout: TaskLayout) -> tuple[Arrays, list[str]]:
    """Results of a relaxation in the order of its source."""
    if layout.free_only:
        raise ValueError(f"{folder}: relaxations serve is2re and is2rs, not {layout.name}")
    try:
        rows = [json.loads(line) for line in (folder / LINES).read_text(encoding="utf-8").splitlines()]
        run = folder / RUN
        structures = json.loads(run.read_text(encoding="utf-8"))["structures"] if run.is_file() else len(rows)
        order = np.argsort([row["index"] for row in rows], kind="stable")
        natoms = np.array([row["natoms"] for row in rows], dtype=np.int64)
        arrays = {"ids": np.array([str(rows[place]["id"]) for place in order])}
        energies = np.array([rows[place]["energy"] for place in order], dtype=float)
        converged = sum(bool(row["converged"]) for row in rows)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / LINES} is damaged: {type(error).__name__}: {error}") from error
    if not rows:
        raise ValueError(f"{folder / LINES} holds no structure")
    if len(rows) != structures:
        raise ValueError(
            f"{folder} is not finished: {len(rows)} of {structures} structures are relaxed; start it again"
        )
    if layout.has_energy:
        arrays["energy"] = energies
    if layout.per_atom:
        stored = (folder / POSITIONS).read_bytes()
        if len(stored) != BYTES_PER_ATOM * natoms.sum():
            raise ValueError(f"{folder / POSITIONS} has {len(stored)} bytes for {natoms.sum()} atoms: damaged")
        blocks = np.split(np.frombuffer(stored, dtype="<f8").reshape(-1, 3), np.cumsum(natoms)[:-1])
        arrays[layout.per_atom] = np.concatenate([blocks[place] for place in order]).astype(float, copy=False)
        arrays["chunk_idx"] = np.cumsum(natoms[order])[:-1]
    unfinished = len(rows) - converged
    return arrays, [f"{unfinished} of {len(rows)} relaxations did not converge"] if unfinished else []


def _from_trajectories(folder: Path, files: Sequence[Path]) -> Arrays:
    """Energies of last frames."""
    energies, most_frames = [], 0
    for file in files:
        try:
            with Trajectory(file) as frames:
                most_frames = max(most_frames, len(frames))
                energies.append(float(frames[-1].get_potential_energy()))
        except (EOFError, LookupError, OSError, RuntimeError, ValueError) as error:
            raise ValueError(f"{file} has no last frame with an energy: {type(error).__name__}: {error}") from error
    if most_frames == 1:
        raise ValueError(
            f"{folder}: every trajectory has one frame, the first: fairchem with task.save_full_traj: false keeps no "
            "other, and its energy is that of the structure before it was relaxed"
        )
    return {"ids": np.array([file.stem for file in files]), "energy": np.array(energies)}
