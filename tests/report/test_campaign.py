"""AdsorbML campaigns in a report."""

from pathlib import Path

import pytest

from ev2_plugin.report.campaign import adsorbml_section
from ev2_plugin.report.page import render
from ev2_plugin.report.parts import LinePlot, Note, Plots, Report, Table
from helpers.report_sources import write_campaign


def test_success_rates_and_anomalies_are_those_of_the_tables(tmp_path: Path) -> None:
    section = adsorbml_section(write_campaign(tmp_path))
    tables = {part.caption: part for part in section.parts if isinstance(part, Table)}
    assert [row[:3] for row in tables["Success rates"].rows[:2]] == [("k = 1", "25.00%", 1), ("k = 2", "50.00%", 2)]
    outcomes = dict(row[:2] for row in tables["What became of 4 placements"].rows)
    assert (outcomes["valid"], outcomes["dissociated"], outcomes["desorbed"], outcomes["not converged"]) == (3, 1, 0, 2)
    (plots,) = (part for part in section.parts if isinstance(part, Plots))
    (plot,) = plots.plots
    assert isinstance(plot, LinePlot)
    assert plot.lines[0].y == (25.0, 50.0, 50.0, 75.0, 75.0)
    assert "EquiformerV2 153M" in render(Report("a", "b", (section,), ()))


def test_a_campaign_that_is_not_scored_says_so(tmp_path: Path) -> None:
    write_campaign(tmp_path)
    (tmp_path / "scores.json").unlink()
    section = adsorbml_section(tmp_path)
    assert any(isinstance(part, Note) and "Not scored yet" in part.text for part in section.parts)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no campaign"):
        adsorbml_section(tmp_path)
