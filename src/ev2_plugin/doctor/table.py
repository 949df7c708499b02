"""Findings for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from ev2_plugin.doctor.finding import SEVERITIES, Finding

_MARKS = {"ok": "[green]ok[/green]", "warning": "[yellow]warning[/yellow]", "error": "[bold red]error[/bold red]"}


def findings_table(findings: Sequence[Finding]) -> Table:
    """One row each; the lines that mend follow by themselves, so that they can be copied whole."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in findings:
        table.add_row(_MARKS[one.severity], one.name, escape(one.found))
    return table


def mending_lines(findings: Sequence[Finding]) -> list[str]:
    """What to paste into a shell, errors first, each with a comment before it and no line twice."""
    lines: list[str] = []
    for severity in reversed(SEVERITIES):
        for one in findings:
            if one.severity == severity and one.mend and one.mend not in lines:
                lines += [f"# {one.name}" + (" (only if you want it)" if severity == "ok" else ""), one.mend]
    return lines


def summary(findings: Sequence[Finding]) -> str:
    """How many of each severity, in words."""
    counts = Counter(one.severity for one in findings)
    return ", ".join(
        [
            f"{counts['error']} error{'' if counts['error'] == 1 else 's'}",
            f"{counts['warning']} warning{'' if counts['warning'] == 1 else 's'}",
            f"{counts['ok']} ok",
        ]
    )
