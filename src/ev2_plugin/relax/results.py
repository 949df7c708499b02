"""Results of relaxations on disk: a line of JSON per structure, and the positions in the same order.

`relaxed.jsonl` holds `id`, `index` (place in the source), `energy` and `initial_energy` (eV), `fmax` (eV/Å), `steps`,
`converged` and `natoms`; `relaxed.positions` the positions (Å) as little-endian float64, three to an atom.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ev2_plugin.relax.group import Relaxed
from ev2_plugin.storage.pickle_stream import Damaged
from ev2_plugin.storage.safe_pickle import reading

LINES, POSITIONS = "relaxed.jsonl", "relaxed.positions"


class Results:
    """The results of a run, appended as structures are done.

    Args:
        folder: Where the two files lie.
        lengths: Bytes of the two files to keep; what a killed run wrote after that is cut off.
    """

    def __init__(self, folder: Path, lengths: tuple[int, int]) -> None:
        self.files = [(folder / name).open("ab") for name in (LINES, POSITIONS)]
        for file, length in zip(self.files, lengths, strict=True):
            if os.fstat(file.fileno()).st_size < length:
                raise ValueError(f"{file.name} is shorter than the {length} bytes that its run has written: damaged")
            file.truncate(length)
            file.seek(0, os.SEEK_END)

    def add(self, one: Relaxed) -> None:
        """Append one result."""
        row: dict[str, Any] = {name: value for name, value in vars(one).items() if name != "positions"}
        line = json.dumps({**row, "natoms": len(one.positions)}, ensure_ascii=False)
        lines, positions = self.files
        lines.write(f"{line}\n".encode())
        positions.write(one.positions.astype("<f8").tobytes())

    def flush(self) -> tuple[int, int]:
        """Put everything on disk; the lengths of the two files."""
        for file in self.files:
            file.flush()
            os.fsync(file.fileno())
        lines, positions = (file.tell() for file in self.files)
        return lines, positions

    def close(self) -> None:
        """Close the files."""
        for file in self.files:
            file.close()


def read_results(folder: Path) -> Iterator[Relaxed]:
    """Read the results of a folder, complete or not, one after the other in the order in which they were done.

    Raises:
        FileNotFoundError: If the folder holds none.
        ValueError: If the two files do not belong together.
    """
    with (folder / LINES).open("rb") as lines, (folder / POSITIONS).open("rb") as positions:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                raise ValueError(
                    f"line {number} of {folder / LINES} is incomplete: the run was ended there; start it again"
                )
            with reading(f"line {number} of {folder / LINES}"):
                row = json.loads(line)
                size = 24 * row.pop("natoms")
                values = positions.read(size)
                if len(values) < size:
                    raise Damaged(f"{folder / POSITIONS} ends before the positions of this line")
                relaxed = Relaxed(**row, positions=np.frombuffer(values, dtype="<f8").reshape(-1, 3))
            yield relaxed
