"""A report as one HTML page: libraries, style, script and data are all in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from ev2_plugin.report.parts import (
    BarPlot,
    Beside,
    Cell,
    Code,
    Folded,
    LinePlot,
    Note,
    ParityPlot,
    Part,
    Plot,
    Plots,
    Report,
    Section,
    Show,
    Table,
    Viewer,
)

PLOTTING, VIEWING = "plotly-cartesian.min.js", "3Dmol-min.js"
_KINDS = {LinePlot: "lines", ParityPlot: "parity", BarPlot: "bars"}


def render(report: Report) -> str:
    """Return the page.

    A library is in it only if something on the page needs it.
    """
    plots = [part for part in _all_parts(report) if isinstance(part, Plots)]
    viewers = [part for part in _all_parts(report) if isinstance(part, Viewer)]
    payload = {
        "plots": {plot.id: {"kind": _KINDS[type(plot)], **asdict(plot)} for one in plots for plot in one.plots},
        "viewers": {viewer.id: viewer.structures for viewer in viewers},
    }
    return Template(asset("template.html")).substitute(
        title=escape(report.title),
        subtitle=escape(report.subtitle),
        contents="".join(f'<li><a href="#{one.id}">{escape(one.title)}</a></li>' for one in report.sections),
        sections="\n".join(map(_section, report.sections)),
        missing=_missing(report.missing),
        payload=as_script_data(payload),
        style=asset("report.css"),
        plotting=asset(PLOTTING) if plots else "",
        viewing=asset(VIEWING) if viewers else "",
        script=asset("report.js"),
    )


@cache
def asset(name: str) -> str:
    """Return the text of a file of `assets/`."""
    return (files("ev2_plugin.report") / "assets" / name).read_text(encoding="utf-8")


def as_script_data(value: Any) -> str:
    """JSON that can stand in a script element: nothing in it can end the element.

    Raises:
        ValueError: If a number is not finite.
    """
    return json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")


def _all_parts(report: Report) -> Iterator[Part]:
    for section in report.sections:
        yield from _with_inner(section.parts)


def _with_inner(parts: tuple[Part, ...]) -> Iterator[Part]:
    for part in parts:
        yield part
        if isinstance(part, Folded):
            yield from _with_inner(part.parts)
        if isinstance(part, Beside):
            yield from _with_inner(part.left + part.right)


def _section(section: Section) -> str:
    parts = "\n".join(map(_part, section.parts))
    return f'<section id="{section.id}" aria-labelledby="{section.id}-title">\n<h2 id="{section.id}-title">' + (
        f"{escape(section.title)}</h2>\n{parts}\n</section>"
    )


def _part(part: Part) -> str:
    match part:
        case Note(text):
            return f"<p>{escape(text)}</p>"
        case Code(caption, text):
            return (
                f"<figure><figcaption>{escape(caption)}</figcaption>"
                f'<pre tabindex="0" role="region" aria-label="{escape(caption)}">{escape(text)}</pre></figure>'
            )
        case Table():
            return _table(part)
        case Plots(plots):
            return f'<div class="plots">{"".join(map(_plot, plots))}</div>'
        case Viewer():
            return _viewer(part)
        case Beside(left, right):
            columns = (f"<div>{''.join(map(_part, parts))}</div>" for parts in (left, right))
            return f'<div class="beside">{"".join(columns)}</div>'
        case Folded(title, parts):
            return f"<details><summary>{escape(title)}</summary>{''.join(map(_part, parts))}</details>"


def _table(table: Table) -> str:
    aligned = [
        " class=number" if column and all(map(_is_number, column)) else "" for column in zip(*table.rows, strict=True)
    ]
    aligned += [""] * (len(table.columns) - len(aligned))
    head = "".join(
        f'<th scope="col"{side}>{escape(column)}</th>' for column, side in zip(table.columns, aligned, strict=True)
    )
    body = "".join(map(_row, table.rows))
    caption = escape(table.caption)
    return (
        f'<div class="scrolls{" tall" if table.tall else ""}" tabindex="0" role="region" aria-label="{caption}">'
        f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(row: tuple[Cell, ...]) -> str:
    cells = "".join(f"<td{' class=number' if _is_number(cell) else ''}>{_cell(cell)}</td>" for cell in row[1:])
    return f'<tr><th scope="row">{_cell(row[0])}</th>{cells}</tr>'


def _cell(cell: Cell) -> str:
    match cell:
        case None:
            return '<span class="quiet">none</span>'
        case Show(viewer, structure, label):
            return (
                f'<button type="button" class="show" data-viewer="{escape(viewer)}" '
                f'data-structure="{escape(structure)}">{escape(label)}</button>'
            )
        case bool() | str():
            return escape(str(cell))
        case int():
            return f"{cell:,}"
        case _:
            return f"{cell:.4g}"


def _is_number(cell: Cell) -> bool:
    if isinstance(cell, str):
        return cell.endswith("%")
    return cell is None or (isinstance(cell, int | float) and not isinstance(cell, bool))


def _plot(plot: Plot) -> str:
    title = escape(plot.title)
    buttons = "".join(
        f'<button type="button" data-action="{action}" aria-label="{label}: {title}">{text}</button>'
        for action, text, label in (
            ("reset", "Reset", "Reset the axes"),
            ("svg", "SVG", "Save as SVG"),
            ("png", "PNG", "Save as PNG"),
        )
    )
    return (
        f'<figure class="plot {_KINDS[type(plot)]}" data-plot="{escape(plot.id)}"><figcaption>{title}</figcaption>'
        f'<div class="canvas" role="img" aria-label="{title}"></div>'
        f'<div class="buttons" role="group" aria-label="{title}">{buttons}</div></figure>'
    )


def _viewer(viewer: Viewer) -> str:
    title = escape(viewer.title)
    return (
        f'<figure class="viewer" data-viewer="{viewer.id}"><figcaption>{title}</figcaption>'
        f'<div class="scene" tabindex="0" role="application" aria-label="{title}: arrow keys turn, + and - zoom, '
        '0 resets"></div><p class="shown" aria-live="polite"></p><div class="buttons"></div></figure>'
    )


def _missing(missing: tuple[str, ...]) -> str:
    if not missing:
        return ""
    items = "".join(f"<li>{escape(one)}</li>" for one in missing)
    return f'<section id="missing"><h2>Not in this report</h2><ul>{items}</ul></section>'
