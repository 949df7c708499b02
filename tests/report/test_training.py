"""Curves of a run as parts of a report."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from ev2_plugin.report.parts import Folded, Line, LinePlot, Note, Part, Plots, Section
from ev2_plugin.report.run_folder import find_run
from ev2_plugin.report.training import MOST_POINTS, curve_sections
from helpers.recorded_runs import log_entries


def parts_of(sections: list[Section]) -> Iterator[Part]:
    for section in sections:
        for part in section.parts:
            yield part
            yield from part.parts if isinstance(part, Folded) else ()


def plots_of(sections: list[Section]) -> dict[str, LinePlot]:
    found = (plot for part in parts_of(sections) if isinstance(part, Plots) for plot in part.plots)
    return {plot.id: plot for plot in found if isinstance(plot, LinePlot)}


def notes_of(sections: list[Section]) -> list[str]:
    return [part.text for part in parts_of(sections) if isinstance(part, Note)]


def line(plot: LinePlot, name: str) -> Line:
    (found,) = (one for one in plot.lines if one.name == name)
    return found


def test_curves_hold_what_was_logged_of_both_splits(run_directory: Path) -> None:
    plots = plots_of(curve_sections(find_run(run_directory)))
    assert list(plots) == ["curve-loss", "curve-energy_mae", "curve-lr", "curve-grad_norm"]
    training, validation = line(plots["curve-loss"], "training"), line(plots["curve-loss"], "validation")
    assert training.x == tuple(range(1, 9))
    assert training.y == pytest.approx([8 / step for step in range(1, 9)], rel=1e-5)
    assert (validation.x, validation.y) == ((4, 8), (2.25, 1.125))


def test_values_that_are_not_finite_are_gaps_and_are_counted(run_directory: Path) -> None:
    folder = run_directory / "logs/local/first"
    log_entries(
        folder, [(9, "train", {"loss": math.nan}), (10, "train", {"loss": math.inf}), (11, "train", {"loss": 1.0})]
    )
    sections = curve_sections(find_run(run_directory))
    assert line(plots_of(sections)["curve-loss"], "training").y[-3:] == (None, None, 1.0)
    assert "loss: 2 of 13 values are not finite; they are gaps in the curve." in notes_of(sections)


def test_a_last_line_that_is_cut_is_left_out(run_directory: Path) -> None:
    with (run_directory / "logs/local/first/metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "split": "train", "val')
    plots = plots_of(curve_sections(find_run(run_directory)))
    assert line(plots["curve-loss"], "training").x[-1] == 8


def test_long_curves_are_means_of_several_steps(run_directory: Path) -> None:
    folder = run_directory / "logs/local/first"
    (folder / "metrics.jsonl").unlink()
    log_entries(folder, [(step, "train", {"loss": float(step % 2)}) for step in range(2 * MOST_POINTS)])
    sections = curve_sections(find_run(run_directory))
    curve = line(plots_of(sections)["curve-loss"], "training")
    assert curve.x == tuple(range(0, 2 * MOST_POINTS, 2))
    assert set(curve.y) == {0.5}
    assert notes_of(sections) == ["4,000 steps were logged: each point is the mean of 2 of them."]


def test_a_run_without_metrics_has_no_curves(run_directory: Path) -> None:
    (run_directory / "logs/local/first/metrics.jsonl").unlink()
    assert curve_sections(find_run(run_directory)) == []
