"""Facts of a checkpoint as a table for the terminal."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table

from ev2_plugin.integration.check.render import in_bytes
from ev2_plugin.integration.inspection import Facts

_UNITS = {"cutoff": " Å"}


def facts_table(facts: Facts) -> Table:
    """Lay out facts, one a line, sections apart.

    Args:
        facts: From `inspect_checkpoint`.
    """
    table = Table(title=escape(facts["file"]["name"]), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for section, rows in facts.items():
        for number, (name, value) in enumerate(rows.items()):
            heading = section.replace("_", " ") if number == 0 else ""
            table.add_row(f"[bold]{heading}[/bold]", escape(name.replace("_", " ")), escape(_text(name, value)))
        table.add_section()
    return table


def _text(name: str, value: Any) -> str:
    if name == "bytes":
        return in_bytes(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {_text(key, one)}" for key, one in value.items())
    if isinstance(value, list):
        return ", ".join(_text("", one) for one in value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}{_UNITS.get(name, '')}"
    return "-" if value is None else str(value)
