"""`write_report`: everything that is known of a run in one file."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from ev2_plugin.report.campaign import adsorbml_section
from ev2_plugin.report.page import render
from ev2_plugin.report.parts import Report, Section
from ev2_plugin.report.predictions import prediction_sections
from ev2_plugin.report.record import config_section, run_section
from ev2_plugin.report.relaxations import relaxation_section
from ev2_plugin.report.run_folder import Run, find_run
from ev2_plugin.report.sources import Predictions, Relaxations, predictions_of, relaxations_of
from ev2_plugin.report.training import curve_sections
from ev2_plugin.storage.atomic import written_atomically

WORST = 100
Follow = Callable[[str, int, int], None]


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


def write_report(
    run: Path | None,
    out: Path,
    *,
    predictions: Path | None = None,
    against: Path | None = None,
    relaxations: Path | None = None,
    trajectories: Path | None = None,
    adsorbml: Path | None = None,
    worst: int = WORST,
    on_progress: Follow = lambda stage, done, total: None,
) -> Written:
    """Write what is known of a run into one HTML file, which needs no network.

    Predictions and relaxations that were made with the run's checkpoints in its run directory are found by themselves.

    Args:
        run: A run directory, or a run's folder of logs or checkpoints (see `run_folder.find_run`); None for a report of
            the rest.
        out: The file to write or replace.
        predictions: `*_predictions.npz` to show instead.
        against: Dataset with the labels of `predictions`.
        relaxations: Folder of relaxations to show instead.
        trajectories: Folder of their trajectories, where it is another one.
        adsorbml: Folder of a campaign.
        worst: How many structures with the largest errors can be looked at, of energies and of forces each.
        on_progress: Called with a stage, what is done of it and all of it.

    Returns:
        What is in it.

    Raises:
        FileNotFoundError: If a path does not exist.
        ValueError: If there is nothing to show, `predictions` and `against` are not given together, or a file is
            damaged.
    """
    if (predictions is None) != (against is None):
        raise ValueError("predictions are compared with labels: give --predictions and --against, or neither")
    if trajectories is not None and relaxations is None:
        raise ValueError("--trajectories belong to --relaxations, which are not given")
    sections: list[Section] = []
    missing: list[str] = []
    found = None if run is None else find_run(run)
    curves, facts = ([], []) if found is None else _of_training(found, missing)
    sections += curves
    if predictions is not None and against is not None:
        sections += prediction_sections(predictions, against, worst=worst, on_progress=on_progress)
    else:
        sections += _own_predictions(found, worst, on_progress, missing)
    if relaxations is not None:
        sections.append(relaxation_section(relaxations, trajectories))
    else:
        sections += _own_relaxations(found, missing)
    if adsorbml is not None:
        sections.append(adsorbml_section(adsorbml))
    else:
        missing.append("AdsorbML: give a campaign with --adsorbml FOLDER.")
    sections += facts
    if not sections:
        raise ValueError("nothing to report: give a run, or --predictions, --relaxations or --adsorbml")
    report = Report(_title(found, out), _subtitle(found), tuple(sections), tuple(missing))
    out.parent.mkdir(parents=True, exist_ok=True)
    with written_atomically(out) as file:
        file.write(render(report).encode())
    return Written(out, tuple(one.title for one in sections), tuple(missing))


def _of_training(run: Run, missing: list[str]) -> tuple[list[Section], list[Section]]:
    """Sections of curves, and of config and environment; what is not there is noted."""
    curves, config, record = curve_sections(run), config_section(run), run_section(run)
    if not curves:
        missing.append(f"Learning curves: {run.metrics} is not there or holds no values.")
    if config is None:
        missing.append(f"Configuration: {run.logs} holds no config-*.yml, which ev2 fairchem and ev2 train write.")
    if record is None:
        missing.append(f"Environment: {run.logs} holds no run.json, which ev2 fairchem and ev2 train write.")
    return curves, [one for one in (config, record) if one is not None]


def _own_predictions(run: Run | None, worst: int, on_progress: Follow, missing: list[str]) -> list[Section]:
    own: Predictions | None = None if run is None else predictions_of(run)
    if own is None:
        missing.append("Parity and errors: give --predictions FILE.npz and --against DATA, which has the labels.")
        return []
    try:
        return prediction_sections(own.file, own.against, worst=worst, on_progress=on_progress)
    except ValueError as error:  # such as a test set without labels, which nobody asked to compare with
        missing.append(f"Parity and errors: {own.file} cannot be compared with {own.against}: {error}")
        return []


def _own_relaxations(run: Run | None, missing: list[str]) -> list[Section]:
    own: Relaxations | None = None if run is None else relaxations_of(run)
    if own is None:
        missing.append("Relaxations: give --relaxations FOLDER, as ev2 relax or --mode run-relaxations leaves it.")
        return []
    try:
        return [relaxation_section(own.folder, own.trajectories, own.fmax)]
    except ValueError as error:  # such as a run that was killed while it relaxed
        missing.append(f"Relaxations: those of {own.folder} cannot be shown: {error}")
        return []


def _title(run: Run | None, out: Path) -> str:
    return out.stem if run is None else f"{run.directory.name}: {run.name}"


def _subtitle(run: Run | None) -> str:
    now = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="minutes")
    where = "" if run is None else f"{run.logs} · "
    return f"{where}ev2_plugin {version('ev2-plugin')} · {now}"
