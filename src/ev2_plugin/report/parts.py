"""What a report is made of: sections of notes, tables, plots and a view of structures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Role = Literal["training", "validation", "quiet", "accent"]
"""What a line or a bar is, from which the page takes its color in either theme."""


@dataclass(frozen=True)
class Show:
    """A cell of a table that is a button: it shows a structure.

    Attributes:
        viewer: Of which viewer.
        structure: Key among its structures.
        label: Text of the button.
    """

    viewer: str
    structure: str
    label: str


Cell = str | int | float | None | Show


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: What it shows.
        columns: Headings; that of the first column names the rows.
        rows: Cells; the first of each row is its heading.
        tall: Whether it has many rows and scrolls by itself.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    tall: bool = False


@dataclass(frozen=True)
class Note:
    """A sentence or a few.

    Attributes:
        text: Plain text.
    """

    text: str


@dataclass(frozen=True)
class Code:
    """A file as it is.

    Attributes:
        caption: What it is.
        text: Its content.
    """

    caption: str
    text: str


@dataclass(frozen=True)
class Line:
    """A curve.

    Attributes:
        name: For the legend.
        x: In ascending order.
        y: None where there is a gap.
        role: Gives its color.
        marks: Whether its points are marked.
        structure: What a click on it shows in the plot's viewer.
    """

    name: str
    x: tuple[int | float, ...]
    y: tuple[float | None, ...]
    role: Role = "training"
    marks: bool = False
    structure: str | None = None


@dataclass(frozen=True)
class LinePlot:
    """Curves over a common axis.

    Attributes:
        id: Unique in the report; file name of exports.
        title: Caption.
        x_label: With unit.
        y_label: With unit.
        lines: The curves.
        log_y: Whether the vertical axis is logarithmic.
        level: A horizontal line, and what it is.
        viewer: Which viewer shows the structures of its lines.
    """

    id: str
    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    log_y: bool = False
    level: tuple[float, str] | None = None
    viewer: str | None = None


@dataclass(frozen=True)
class ParityPlot:
    """Predictions over labels: points, or the density of many and the worst as points.

    Attributes:
        id: Unique in the report; file name of exports.
        title: Caption.
        quantity: For the axes.
        unit: Of both axes.
        low: Lower end of both axes.
        high: Upper end of both axes.
        bins: Cells of the density along each axis.
        cells: Column, row and count of every cell that is not empty.
        points: Label and prediction of each value, where these are few.
        worst: Label, prediction and structure (key in the viewer) of the largest errors.
        viewer: Which viewer shows these structures.
        members: What is counted, for the color bar.
    """

    id: str
    title: str
    quantity: str
    unit: str
    low: float
    high: float
    bins: int
    cells: tuple[tuple[int, int, int], ...]
    points: tuple[tuple[float, float], ...]
    worst: tuple[tuple[float, float, str], ...]
    viewer: str
    members: str


@dataclass(frozen=True)
class BarPlot:
    """Values by group.

    Attributes:
        id: Unique in the report; file name of exports.
        title: Caption.
        x_label: What the groups are.
        y_label: With unit.
        groups: Names.
        values: One per group.
        errors: Standard errors; None where there is none.
        overall: Value over all, drawn as a line; None if there is none.
    """

    id: str
    title: str
    x_label: str
    y_label: str
    groups: tuple[str, ...]
    values: tuple[float, ...]
    errors: tuple[float | None, ...]
    overall: float | None = None


Plot = LinePlot | ParityPlot | BarPlot


@dataclass(frozen=True)
class Plots:
    """Plots side by side.

    Attributes:
        plots: In reading order.
    """

    plots: tuple[Plot, ...]


@dataclass(frozen=True)
class Viewer:
    """A view of structures, which buttons of tables and points of plots choose.

    Attributes:
        id: Unique in the report.
        title: Caption.
        structures: What it can show by key, as `structures.packed` makes them; at the start, that of the first button.
    """

    id: str
    title: str
    structures: Mapping[str, Any]


@dataclass(frozen=True)
class Beside:
    """Two columns, where the page is wide enough.

    Attributes:
        left: Parts of the left one.
        right: Parts of the right one.
    """

    left: tuple[Part, ...]
    right: tuple[Part, ...]


@dataclass(frozen=True)
class Folded:
    """Parts behind a heading that opens them.

    Attributes:
        title: The heading.
        parts: What is inside.
    """

    title: str
    parts: tuple[Part, ...]


Part = Table | Note | Code | Plots | Viewer | Beside | Folded


@dataclass(frozen=True)
class Section:
    """A section of the report.

    Attributes:
        id: For links.
        title: Heading.
        parts: In reading order.
    """

    id: str
    title: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Report:
    """All of a report.

    Attributes:
        title: Heading of the page.
        subtitle: A line below it.
        sections: Those that have something to show.
        missing: What was not found, and which option brings it.
    """

    title: str
    subtitle: str
    sections: tuple[Section, ...]
    missing: tuple[str, ...]
