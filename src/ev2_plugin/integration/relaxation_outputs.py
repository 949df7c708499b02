"""The files that a relaxation run ends with, as the host, EvalAI and people read them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ev2_plugin.integration.relaxation_metrics import Metrics
from ev2_plugin.relax.group import Relaxed
from ev2_plugin.storage.atomic import written_atomically

POSITIONS_FILE = "relaxed_positions.npz"
ENERGIES_FILE = "relaxed_energies.npz"
NOT_CONVERGED_FILE = "not_converged.csv"
METRICS_FILE = "metrics.json"
_SHOWN = 20


def write_results(
    folder: Path, relaxed: Sequence[Relaxed], metrics: Mapping[str, Metrics], *, positions: bool
) -> list[str]:
    """Write all files of a run; each is there as a whole or not at all.

    Args:
        folder: For the files; made if missing.
        relaxed: In the order of the dataset.
        metrics: As `relaxation_metrics` returns them.
        positions: Whether to write the positions.

    Returns:
        Lines that say what came out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if positions:
        write_positions(folder / POSITIONS_FILE, relaxed)
    write_energies(folder / ENERGIES_FILE, relaxed)
    left = [one for one in relaxed if not one.converged]
    write_not_converged(folder / NOT_CONVERGED_FILE, left)
    counts = {
        "structures": len(relaxed),
        "converged": len(relaxed) - len(left),
        "mean_steps": float(np.mean([one.steps for one in relaxed])),
    }
    write_json(folder / METRICS_FILE, {**counts, **metrics})
    lines = [
        f"{task} {name} {one['value']:.6g} (of {one['count']})"
        for task, ones in metrics.items()
        for name, one in ones.items()
    ]
    return [*not_converged_lines(left, len(relaxed)), *lines, f"results: {folder}"]


def write_positions(path: Path, relaxed: Sequence[Relaxed]) -> None:
    """Write relaxed positions: `ids`, `pos` (all atoms, float32, Å), `chunk_idx` (for `numpy.split`, one less)."""
    ends = np.cumsum([len(one.positions) for one in relaxed])
    _write_arrays(
        path,
        ids=np.array([one.id for one in relaxed]),
        pos=np.concatenate([one.positions for one in relaxed]).astype(np.float32),
        chunk_idx=ends[:-1],
    )


def write_energies(path: Path, relaxed: Sequence[Relaxed]) -> None:
    """Write relaxed energies: `ids` and `energy` (float32, eV), as an IS2RE prediction file has them."""
    _write_arrays(
        path,
        ids=np.array([one.id for one in relaxed]),
        energy=np.array([one.energy for one in relaxed], dtype=np.float32),
    )


def write_not_converged(path: Path, left: Sequence[Relaxed]) -> None:
    """Write which structures ended with too large forces."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "steps", "fmax [eV/Å]", "energy [eV]"])
    writer.writerows([one.id, one.steps, f"{one.fmax:.6g}", f"{one.energy:.6f}"] for one in left)
    _replace(path, text.getvalue().encode())


def not_converged_lines(left: Sequence[Relaxed], total: int) -> list[str]:
    """The same for people: the worst first, and not more of them than one reads."""
    if not left:
        return [f"all {total} structures converged"]
    lines = [f"{len(left)} of {total} structures did not converge:"]
    lines.append(f"{'id':>20} {'steps':>6} {'fmax [eV/Å]':>12} {'energy [eV]':>14}")
    for one in sorted(left, key=lambda one: -one.fmax)[:_SHOWN]:
        lines.append(f"{one.id:>20} {one.steps:6d} {one.fmax:12.4f} {one.energy:14.4f}")
    if len(left) > _SHOWN:
        lines.append(f"and {len(left) - _SHOWN} more with smaller forces: {NOT_CONVERGED_FILE} has them all")
    return lines


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file."""
    _replace(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def _write_arrays(path: Path, **arrays: np.ndarray) -> None:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    _replace(path, content.getvalue())


def _replace(path: Path, content: bytes) -> None:
    with written_atomically(path) as file:
        file.write(content)
