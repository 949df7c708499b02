"""Trajectories that are written while structures relax and that survive a kill.

Frames of a structure on its way are appended to a file of fixed-length records, so that what a killed run wrote after
its last snapshot can be cut off. When the structure is done, they become one ASE trajectory, under its name at once.
"""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import Literal

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.trajectory import TrajectoryWriter

Kept = Literal["none", "ends", "full"]


class Frames:
    """Frames of the structures on their way.

    Args:
        folder: Where `<id>.traj` are written.
        kept: Which frames: none, the first and the last, or all.
    """

    def __init__(self, folder: Path, kept: Kept) -> None:
        self.folder, self.kept = folder, kept
        self.unwritten: dict[int, list[np.ndarray]] = defaultdict(list)
        self.counts: dict[int, int] = {}
        self.last: dict[int, np.ndarray] = {}
        self.ended: list[Path] = []
        if kept != "none":
            self._scratch.mkdir(parents=True, exist_ok=True)

    def add(self, index: int, step: int, energy: float, positions: np.ndarray, forces: np.ndarray) -> None:
        """Keep a frame of structure `index`: energy in eV, positions in Å and forces in eV/Å, both [atoms, 3]."""
        if self.kept == "none":
            return
        record = np.concatenate(([energy], positions.reshape(-1), forces.reshape(-1))).astype("<f8")
        if self.kept == "full" or step == 0:
            self.unwritten[index].append(record)
        else:
            self.last[index] = record

    def flush(self) -> dict[int, int]:
        """Put on disk what is not there; the number of frames there, by structure."""
        for index, records in self.unwritten.items():
            with self._file(index).open("ab") as file:
                file.write(np.concatenate(records).tobytes())
                file.flush()
                os.fsync(file.fileno())
            self.counts[index] = self.counts.get(index, 0) + len(records)
        self.unwritten.clear()
        return dict(self.counts)

    def restore(self, counts: dict[int, int], natoms: dict[int, int]) -> None:
        """Cut every file to what it held when `flush` returned `counts`.

        Raises:
            ValueError: If a file holds less.
        """
        self.counts = dict(counts)
        if self.kept == "none":
            return
        for path in self._scratch.iterdir():
            if path.suffix != ".frames" or int(path.stem) not in counts:
                path.unlink()
        for index, count in counts.items():
            path, length = self._file(index), count * _record_bytes(natoms[index])
            if not path.exists() or path.stat().st_size < length:
                raise ValueError(f"{path} lacks frames that its run has written: damaged")
            os.truncate(path, length)

    def finish(self, index: int, name: str, structure: Atoms) -> None:
        """Write the trajectory of a structure that is done; its last frame is the end of the relaxation.

        Args:
            index: Its place in the source.
            name: Its id.
            structure: The structure, wherever its atoms are.
        """
        if self.kept == "none":
            return
        partial = self._scratch / f"{index}.traj"
        with TrajectoryWriter(partial, "w") as writer:
            for record in self._records(index, len(structure)):
                writer.write(_frame(structure, record))
        partial.replace(self.folder / f"{name}.traj")
        self.ended.append(self._file(index))
        self.unwritten.pop(index, None)
        self.counts.pop(index, None)

    def discard_ended(self) -> None:
        """Remove the frames of structures that are done, once nothing can call for them again."""
        while self.ended:
            self.ended.pop().unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the scratch folder of a run that is complete."""
        if self.kept != "none" and self._scratch.is_dir():
            self._scratch.rmdir()

    @property
    def _scratch(self) -> Path:
        return self.folder / ".partial"

    def _file(self, index: int) -> Path:
        return self._scratch / f"{index}.frames"

    def _records(self, index: int, natoms: int) -> np.ndarray:
        path = self._file(index)
        records = [np.fromfile(path, dtype="<f8")] if path.exists() else []
        records += self.unwritten.get(index, [])
        if index in self.last:
            records.append(self.last.pop(index))
        return np.concatenate(records).reshape(-1, _record_bytes(natoms) // 8)


def _record_bytes(natoms: int) -> int:
    return 8 * (1 + 6 * natoms)


def _frame(like: Atoms, record: np.ndarray) -> Atoms:
    positions, forces = record[1:].reshape(2, len(like), 3)
    frame = like.copy()
    frame.positions = positions
    frame.calc = SinglePointCalculator(frame, energy=float(record[0]), forces=forces)
    return frame
