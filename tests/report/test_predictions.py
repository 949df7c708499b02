"""Predictions in a report: the worst are found, with their structures and forces."""

from pathlib import Path

import numpy as np
import pytest

from ev2_plugin.data.predictions import read_s2ef_predictions
from ev2_plugin.data.stored import dataset_files, read_samples
from ev2_plugin.report.parts import BarPlot, Beside, ParityPlot, Plots, Section, Show, Table, Viewer
from ev2_plugin.report.predictions import prediction_sections
from helpers.report_sources import ENERGY_OUTLIER, FORCE_OUTLIER, write_predictions


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_predictions(tmp_path_factory.mktemp("predictions"))


@pytest.fixture(scope="module")
def sections(files: tuple[Path, Path]) -> list[Section]:
    return prediction_sections(*files, worst=2, on_progress=lambda stage, done, total: None)


def beside(sections: list[Section]) -> tuple[Viewer, list[Table]]:
    (found,) = (part for part in sections[0].parts if isinstance(part, Beside))
    (viewer,) = found.left
    assert isinstance(viewer, Viewer)
    return viewer, [part for part in found.right if isinstance(part, Table)]


def test_the_worst_structures_lead_the_tables_and_can_be_shown(sections: list[Section]) -> None:
    viewer, tables = beside(sections)
    for table, name, error in zip(tables, (ENERGY_OUTLIER, FORCE_OUTLIER), (3.0, 4.0), strict=True):
        shown, *numbers = table.rows[0]
        assert shown == Show(viewer.id, name, name)
        assert len(table.rows) == 2
        assert any(isinstance(one, float) and abs(one - error) < 0.21 for one in numbers)
    assert len(viewer.structures) <= 4
    assert {row[0].structure for table in tables for row in table.rows if isinstance(row[0], Show)} == set(
        viewer.structures
    )


def test_points_of_the_worst_lie_where_they_were_predicted(sections: list[Section]) -> None:
    plots = [plot for part in sections[0].parts if isinstance(part, Plots) for plot in part.plots]
    for plot, name, error in zip(plots, (ENERGY_OUTLIER, FORCE_OUTLIER), (3.0, 4.0), strict=True):
        assert isinstance(plot, ParityPlot)
        label, prediction, key = plot.worst[0]
        assert key == name
        assert prediction - label == pytest.approx(error, abs=0.11)


def test_a_structure_carries_its_forces_with_zeros_on_fixed_atoms(
    files: tuple[Path, Path], sections: list[Section]
) -> None:
    shown = beside(sections)[0].structures[FORCE_OUTLIER]
    data = next(data for _, data in read_samples(dataset_files(files[1])) if f"{data.sid}_0" == FORCE_OUTLIER)
    assert len(shown["symbols"]) == data.natoms
    np.testing.assert_allclose(shown["frames"][0], data.pos.ravel(), atol=6e-4)
    free = data.fixed.numpy() == 0
    prediction = np.reshape(shown["prediction"], (-1, 3))
    expected = read_s2ef_predictions(files[0])[FORCE_OUTLIER].free_forces
    np.testing.assert_allclose(prediction[free], expected, atol=6e-4)
    np.testing.assert_allclose(np.reshape(shown["label"], (-1, 3))[free], data.force[free], atol=6e-4)
    assert not prediction[~free].any()


def test_errors_are_broken_down_by_element_and_by_force(sections: list[Section]) -> None:
    bars = {plot.id: plot for part in sections[1].parts if isinstance(part, Plots) for plot in part.plots}
    by_element = bars["by-element-forces_mae"]
    assert isinstance(by_element, BarPlot)
    assert by_element.groups == ("H", "O", "Cu", "Pt")
    assert max(zip(by_element.values, by_element.groups, strict=True))[1] == "H"  # the outlier's atom
    assert {"by-force-forces_mae", "by-force-forces_cosine", "by-element-energy_mae"} <= set(bars)


def test_energies_alone_have_no_forces(files: tuple[Path, Path], tmp_path: Path) -> None:
    with np.load(files[0]) as arrays:
        np.savez(tmp_path / "energies.npz", ids=arrays["ids"], energy=arrays["energy"])
    found = prediction_sections(tmp_path / "energies.npz", files[1], worst=2, on_progress=lambda *_: None)
    viewer, tables = beside(found)
    assert len(tables) == 1
    assert all("label" not in one for one in viewer.structures.values())


def test_samples_are_read_by_their_number_through_all_files(tmp_path: Path) -> None:
    from ase import Atoms
    from ase.db import connect

    from ev2_plugin.data.stored import read_chosen

    for name, first in (("a", 0), ("b", 3)):
        with connect(tmp_path / f"{name}.db") as database:
            for number in range(first, first + 3):
                database.write(Atoms("H", cell=[9, 9, 9], pbc=True), data={"sid": number})
    found = list(read_chosen(dataset_files(tmp_path), [5, 0, 3]))
    assert [data.sid for data in found] == [5, 0, 3]
    with pytest.raises(IndexError, match="sample 6 of 6"):
        list(read_chosen(dataset_files(tmp_path), [6]))
