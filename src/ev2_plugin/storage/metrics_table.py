"""One split of a metrics log as a CSV file, a row per step, that grows with it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from ev2_plugin.storage.atomic import written_atomically
from ev2_plugin.storage.metrics_log import Entry, read_rows


class MetricsTable:
    """Writes the CSV file of one split.

    The log is the record and the table a view of it. When a process starts to log, and whenever a metric appears that
    the table has no column for, the table is made anew from the log; columns stay in the order they appeared in. A row
    is written when an entry with an epoch ends its step: the host logs such things as a gradient's norm before.

    Args:
        path: The file.
        log: The metrics log to make it from.
        split: The split.
    """

    def __init__(self, path: Path, log: Path, split: str) -> None:
        self.path, self.log, self.split = path, log, split
        self._columns: list[str] = []
        self._file: TextIO | None = None
        self._row: Entry | None = None  # not written yet
        self._last_step = -1

    def append(self, entry: Entry) -> None:
        """Take in an entry that is not in the log yet.

        Raises:
            OSError: If the table cannot be written.
        """
        if self._row is not None and self._row.step != entry.step:
            self._write_row(self._row)
        self._row = entry if self._row is None else self._row.joined_by(entry)
        if entry.epoch is not None:
            self._write_row(self._row)

    def close(self) -> None:
        """Write what is left and close the file."""
        if self._row is not None:
            self._write_row(self._row)
        if self._file is not None:
            self._file.close()
        self._file = None

    def make_anew(self, row: Entry | None = None) -> None:
        """Write the table as the log has it, with `row` at its end instead of what the log has of that step.

        Raises:
            OSError: If the table cannot be written.
            ValueError: If a line of the log that is not the last is damaged.
        """
        if self._file is not None:
            self._file.close()
        self._columns = list(dict.fromkeys(chain.from_iterable(one.values for one in self._rows(row))))
        with written_atomically(self.path) as file:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="")
            _writer(text).writerow(["step", "epoch", *self._columns])
            _writer(text).writerows(self._cells(one) for one in self._rows(row))
            text.detach()
        self._file = self.path.open("a", encoding="utf-8", newline="", buffering=1)

    def _write_row(self, row: Entry) -> None:
        self._row = None
        if self._file is None or row.step <= self._last_step or not row.values.keys() <= set(self._columns):
            self.make_anew(row)
        else:
            _writer(self._file).writerow(self._cells(row))
        self._last_step = row.step

    def _rows(self, last: Entry | None) -> Iterator[Entry]:
        before: Iterable[Entry] = read_rows(self.log, self.split) if self.log.exists() else ()
        if last is None:
            return iter(before)
        return chain((one for one in before if one.step != last.step), [last])

    def _cells(self, row: Entry) -> list[int | float | None]:
        return [row.step, row.epoch, *(row.values.get(name) for name in self._columns)]


def _writer(file: Any) -> Any:
    return csv.writer(file, lineterminator="\n")
