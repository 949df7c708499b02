"""`write_report`: everything that is known of a run in one file."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from ev2_plugin.report.page import render
from ev2_plugin.report.parts import Report, Section
from ev2_plugin.report.run_folder import Run, find_run
from ev2_plugin.report.training import config_section, curve_sections, run_section
from ev2_plugin.storage.atomic import written_atomically


@dataclass(frozen=True)
class Written:
    """A report that was written.

    Attributes:
        path: The file.
        sections: Titles of what it shows.
        missing: What was not found, and how to bring it.
    """

    path: Path
    sections: tuple[str, ...]
    missing: tuple[str, ...]


def write_report(run: Path, out: Path) -> Written:
    """Write what is known of a run into one HTML file, which needs no network.

    Args:
        run: A run directory, or a run's folder of logs or checkpoints; see `run_folder.find_run`.
        out: The file to write or replace.

    Returns:
        What is in it.

    Raises:
        FileNotFoundError: If there is no such run.
        ValueError: If nothing of a run is there, or a file of it is damaged.
    """
    found = find_run(run)
    sections, missing = _of_run(found)
    now = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="minutes")
    report = Report(
        title=f"{found.directory.name}: {found.name}",
        subtitle=f"{found.logs} · ev2_plugin {version('ev2-plugin')} · {now}",
        sections=tuple(sections),
        missing=tuple(missing),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with written_atomically(out) as file:
        file.write(render(report).encode())
    return Written(out, tuple(one.title for one in sections), tuple(missing))


def _of_run(run: Run) -> tuple[list[Section], list[str]]:
    missing = []
    curves = curve_sections(run)
    config, record = config_section(run), run_section(run)
    if not curves:
        missing.append(f"Learning curves: {run.metrics} is not there or holds no values.")
    if record is None:
        missing.append(f"Environment: {run.logs} holds no run.json, which ev2 fairchem and ev2 train write.")
    if config is None:
        missing.append(f"Configuration: {run.logs} holds no config-*.yml, which ev2 fairchem and ev2 train write.")
    return [*curves, *(one for one in (config, record) if one is not None)], missing
