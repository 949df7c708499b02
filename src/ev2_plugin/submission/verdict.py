"""What a check found: faults and remarks of every split."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SHOWN = 5
"""Ids that a message names."""


@dataclass(frozen=True)
class Fault:
    """Something for which a file is refused.

    Attributes:
        kind: A word or two, the same for all faults of a kind.
        text: What is wrong, with numbers.
        ids: Structures that it concerns, all of them.
    """

    kind: str
    text: str
    ids: tuple[str, ...] = ()

    def __str__(self) -> str:
        named = ", ".join(self.ids[:SHOWN]) + (", ..." if len(self.ids) > SHOWN else "")
        return f"{self.kind}: {self.text}" + (f": {named}" if self.ids else "")


@dataclass(frozen=True)
class SplitVerdict:
    """What was found in a split.

    Attributes:
        split: Its name.
        structures: How many it has; None if that cannot be told.
        expected: How many the data set has; None if it was not given.
        faults: What it is refused for.
        remarks: What is worth knowing and no fault.
    """

    split: str
    structures: int | None
    expected: int | None
    faults: tuple[Fault, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What was found in a file.

    Attributes:
        file: The file.
        dataset: Data set it is for.
        task: Task it is for.
        splits: One verdict per split.
        faults: Faults of no split in particular.
    """

    file: Path
    dataset: str
    task: str
    splits: tuple[SplitVerdict, ...]
    faults: tuple[Fault, ...] = ()

    @property
    def passes(self) -> bool:
        """Whether there is no fault."""
        return not self.faults and not any(split.faults for split in self.splits)

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON has it."""
        return {**asdict(self), "file": str(self.file), "passes": self.passes}


def list_ids(verdict: Verdict, path: Path) -> int:
    """Write a line `split<TAB>kind<TAB>id` for every structure that a fault names.

    Returns:
        The number of lines.
    """
    lines = [
        f"{split.split}\t{fault.kind}\t{name}\n"
        for split in verdict.splits
        for fault in split.faults
        for name in fault.ids
    ]
    path.write_text("".join(lines), encoding="utf-8")
    return len(lines)
