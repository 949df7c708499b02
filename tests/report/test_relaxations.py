"""Relaxations in a report, from a work folder and from trajectories alone."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from ase.io import Trajectory

from ev2_plugin.report.parts import Beside, LinePlot, Note, Plots, Section, Table, Viewer
from ev2_plugin.report.relaxations import relaxation_section
from helpers.report_sources import relax_slabs


@pytest.fixture(scope="module")
def relaxed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return relax_slabs(tmp_path_factory.mktemp("relaxed") / "work")


def viewer_and_table(section: Section) -> tuple[Viewer, Table]:
    (found,) = (part for part in section.parts if isinstance(part, Beside))
    (viewer,), (table,) = found.left, found.right
    assert isinstance(viewer, Viewer)
    assert isinstance(table, Table)
    return viewer, table


def plots_of(section: Section) -> dict[str, LinePlot]:
    found = (plot for part in section.parts if isinstance(part, Plots) for plot in part.plots)
    return {plot.id: plot for plot in found if isinstance(plot, LinePlot)}


def test_all_frames_of_a_trajectory_are_drawn_and_can_be_played(relaxed: Path) -> None:
    section = relaxation_section(relaxed)
    viewer, table = viewer_and_table(section)
    assert len(table.rows) == len(viewer.structures) == 3
    forces, energies = plots_of(section)["relaxation-fmax"], plots_of(section)["relaxation-energy"]
    assert forces.level == (0.05, "converged below 0.05 eV/Å")
    for force, energy in zip(forces.lines, energies.lines, strict=True):
        with Trajectory(relaxed / "trajectories" / f"{force.name}.traj") as file:
            frames = list(file)
        assert (force.x, force.structure) == (tuple(range(len(frames))), force.name)
        expected = [np.linalg.norm(frame.get_forces(), axis=1).max() for frame in frames]
        np.testing.assert_allclose(force.y, expected, atol=1e-5)
        assert force.y[-1] is not None
        assert force.y[-1] <= 0.05
        start, end = (frames[place].get_potential_energy() for place in (0, -1))
        assert energy.y[-1] == pytest.approx(end - start, abs=1e-5)
        packed = viewer.structures[force.name]
        assert len(packed["frames"]) == len(packed["texts"]) == min(len(frames), 50)
        np.testing.assert_allclose(np.reshape(packed["frames"][-1], (-1, 3)), frames[-1].positions, atol=6e-4)


def test_the_summary_counts_what_converged(relaxed: Path, tmp_path: Path) -> None:
    def summary(section: Section) -> str:
        return next(part.text for part in section.parts if isinstance(part, Note))

    assert "3 relaxations" in summary(relaxation_section(relaxed))
    assert "3 converged to forces below 0.05 eV/Å, 0 did not" in summary(relaxation_section(relaxed))
    stopped = relaxation_section(relax_slabs(tmp_path / "stopped", trajectories="none", max_steps=1))
    assert "0 converged to forces below 0.05 eV/Å, 3 did not" in summary(stopped)
    assert not any(isinstance(part, Beside) for part in stopped.parts)


def test_the_ends_of_a_trajectory_stand_at_their_steps(tmp_path: Path) -> None:
    section = relaxation_section(relax_slabs(tmp_path / "ends", trajectories="ends"))
    for line in plots_of(section)["relaxation-fmax"].lines:
        steps = next(
            row[1] for row in viewer_and_table(section)[1].rows if getattr(row[0], "structure", None) == line.name
        )
        assert line.x == (0, steps)


def test_a_folder_of_trajectories_is_enough(relaxed: Path, tmp_path: Path) -> None:
    shutil.copytree(relaxed / "trajectories", tmp_path / "alone")
    section = relaxation_section(tmp_path / "alone")
    assert {row[4] for row in viewer_and_table(section)[1].rows} == {"unknown"}
    judged = relaxation_section(tmp_path / "alone", fmax=0.05)
    assert {row[4] for row in viewer_and_table(judged)[1].rows} == {"yes"}


def test_a_folder_without_relaxations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no relaxations: neither relaxed.jsonl nor trajectories"):
        relaxation_section(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere is no folder of relaxations"):
        relaxation_section(tmp_path / "nowhere")
