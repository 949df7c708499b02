"""A verdict for the terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from ev2_plugin.submission.verdict import SplitVerdict, Verdict


def verdict_table(verdict: Verdict) -> Table:
    """Show what was found in each split."""
    table = Table(title=f"{verdict.dataset.upper()} {verdict.task.upper()}: {verdict.file}", show_lines=True)
    table.add_column("split")
    table.add_column("structures", justify="right")
    table.add_column("in the test set", justify="right")
    table.add_column("verdict", overflow="fold")
    for split in verdict.splits:
        table.add_row(split.split, _count(split.structures, "?"), _count(split.expected, "not given"), _cell(split))
    for fault in verdict.faults:
        table.add_row("file", "", "", Text(str(fault), style="red"))
    return table


def _count(number: int | None, unknown: str) -> str:
    return unknown if number is None else f"{number:,}"


def _cell(split: SplitVerdict) -> Text:
    good = "passes" if split.expected is not None else "no fault, completeness unknown"
    lines = [Text(str(fault), style="red") for fault in split.faults] or [Text(good, style="green")]
    return Text("\n").join([*lines, *(Text(remark, style="dim") for remark in split.remarks)])
