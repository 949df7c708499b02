"""What a test set asks for: its ids in their order, and the atoms of every structure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ev2_plugin.data.stored import count_samples, dataset_files, read_samples
from ev2_plugin.workers import run_jobs


@dataclass(frozen=True)
class Expected:
    """Structures of a test set in its order.

    Attributes:
        ids: Names, [structures].
        atoms: Atoms of each, [structures].
        free: Atoms that are not fixed, [structures].
    """

    ids: np.ndarray
    atoms: np.ndarray
    free: np.ndarray


def read_expected(
    sources: Sequence[Path],
    has_frames: bool,
    workers: int = 1,
    follow: Callable[[int, int], None] = lambda done, total: None,
) -> Expected:
    """Read a test set once; of each structure only the name and two numbers are kept.

    Args:
        sources: Files or folders of the split, in the host's order.
        has_frames: Whether ids are `<sid>_<fid>`.
        workers: Processes; each reads files of its own.
        follow: Called with structures read and all structures, after each file.

    Raises:
        FileNotFoundError: If a source does not exist.
        ValueError: If one cannot be read to its end, a structure has no `sid` (or `fid`), or the set repeats an id.
    """
    files = [file for source in sources for file in dataset_files(source)]
    total, done = count_samples(files), 0
    parts: dict[int, Expected] = {}
    for place, part in run_jobs([partial(_read_file, *job, has_frames) for job in enumerate(files)], workers):
        parts[place] = part
        done += len(part.ids)
        follow(done, total)
    ordered = [parts[place] for place in sorted(parts)]
    ids = np.concatenate([part.ids for part in ordered])
    names, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        some = ", ".join(names[counts > 1][:5].tolist())
        raise ValueError(f"{sources[0]}: {(counts > 1).sum()} ids come more than once: {some}; is a file given twice?")
    return Expected(
        ids, np.concatenate([part.atoms for part in ordered]), np.concatenate([part.free for part in ordered])
    )


def _read_file(place: int, file: Path, has_frames: bool) -> tuple[int, Expected]:
    ids, atoms, free = [], [], []
    for name, data in read_samples([file]):
        missing = [key for key in ("sid", "fixed", *(["fid"] if has_frames else [])) if key not in data]
        if missing:
            raise ValueError(f"{name} has no {', '.join(missing)}: is it a set for this task?")
        sid = _plain(data.sid)
        ids.append(f"{sid}_{_plain(data.fid)}" if has_frames else sid)
        atoms.append(len(data.fixed))
        free.append(int((data.fixed == 0).sum()))
    return place, Expected(np.array(ids, dtype=str), np.array(atoms, dtype=np.int64), np.array(free, dtype=np.int64))


def _plain(value: object) -> str:
    return str(value.item() if isinstance(value, torch.Tensor) else value)
