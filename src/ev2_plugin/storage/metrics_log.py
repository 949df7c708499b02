"""The metrics of a run: a file of JSON lines that survives kills, cut lines and resumed runs."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ev2_plugin.storage.atomic import written_atomically


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What a run logged at once.

    Attributes:
        step: The host's step: batches of training so far.
        split: `train`, `val`, ...; may be empty.
        epoch: Passes over the training set so far; None if the run did not say.
        time: Seconds since 1970.
        values: Metrics by name.
    """

    step: int
    split: str
    epoch: float | None
    time: float
    values: Mapping[str, float]

    def joined_by(self, later: Entry) -> Entry:
        """This entry and a later one of the same step; where both have a value, the later one's."""
        epoch = self.epoch if later.epoch is None else later.epoch
        values = {**self.values, **later.values}
        return Entry(step=later.step, split=later.split, epoch=epoch, time=later.time, values=values)


def read_entries(path: Path) -> Iterator[Entry]:
    """Yield every entry of a file, line by line; a last line that is cut is left out.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If another line is damaged.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.endswith(b"\n"):
                yield _decoded(line, f"{path}, line {number}")


def read_rows(path: Path, split: str) -> Iterator[Entry]:
    """Yield one entry per step of a split: all that the run logged of it, the later value where one was repeated.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line that is not the last is damaged.
    """
    row: Entry | None = None
    for entry in read_entries(path):
        if entry.split != split:
            continue
        if row is not None and row.step != entry.step:
            yield row
            row = None
        row = entry if row is None else row.joined_by(entry)
    if row is not None:
        yield row


class MetricsLog:
    """Appends entries to a file, each handed to the operating system at once.

    What a killed process logged is there; only a crash of the whole machine can take the last seconds. The file is
    opened by the first entry, and a cut last line removed then.

    Args:
        path: In a folder that exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None

    def append(self, entry: Entry) -> None:
        """Write one entry.

        Raises:
            OSError: If it cannot be written.
        """
        if self._file is None:
            _remove_cut_line(self.path)
            self._file = self.path.open("ab", buffering=0)
        self._file.write(_encoded(entry))

    def go_on_at(self, step: int) -> None:
        """Remove entries of this step and of later ones: a run that ended is resumed before them.

        The file with them is replaced at once by one without them, or is left as it is.

        Raises:
            ValueError: If a line that is not the last is damaged.
            OSError: If the new file cannot be written.
        """
        self.close()
        if not self.path.exists() or all(entry.step < step for entry in read_entries(self.path)):
            return
        with written_atomically(self.path) as file:
            file.writelines(_encoded(entry) for entry in read_entries(self.path) if entry.step < step)

    def close(self) -> None:
        """Close the file; another entry opens it again."""
        if self._file is not None:
            self._file.close()
        self._file = None


def _encoded(entry: Entry) -> bytes:
    """A line of JSON as the standard has it: no NaN, no infinity, which many readers refuse."""
    line: dict[str, Any] = {"step": entry.step, "split": entry.split, "epoch": entry.epoch, "time": entry.time}
    line["values"] = {name: value if math.isfinite(value) else None for name, value in entry.values.items()}
    if None in line["values"].values():
        line["not_finite"] = {name: str(value) for name, value in entry.values.items() if not math.isfinite(value)}
    return json.dumps(line, allow_nan=False).encode() + b"\n"


def _decoded(line: bytes, where: str) -> Entry:
    try:
        read = json.loads(line)
        not_finite = {name: float(value) for name, value in read.pop("not_finite", {}).items()}
        return Entry(**{**read, "values": read["values"] | not_finite})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{where}: not an entry of a metrics log: {line[:80]!r}") from error


def _remove_cut_line(path: Path) -> None:
    if not path.exists():
        return
    with path.open("r+b") as file:
        end = start = file.seek(0, os.SEEK_END)
        kept = 0
        while start and not kept:
            start = max(start - 2**16, 0)
            file.seek(start)
            kept = start + file.read(min(2**16, end - start)).rfind(b"\n") + 1
            kept = kept if kept > start else 0
        if kept != end:
            file.truncate(kept)
