"""What a report takes from a run directory by itself, and what it is told."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from ev2_plugin.report.write import write_report
from helpers.recorded_runs import record_run
from helpers.report_sources import relax_slabs, write_campaign, write_predictions


@pytest.fixture
def full_run(run_directory: Path) -> Path:
    """The run directory with a prediction and relaxations by its checkpoint."""
    checkpoint = str(run_directory / "checkpoints" / "first" / "best_checkpoint.pt")
    results = run_directory / "results" / "predicted"
    results.mkdir(parents=True)
    file, labels = write_predictions(run_directory)
    file.rename(results / "s2ef_predictions.npz")
    logs = run_directory / "logs" / "local"
    datasets = {"test": {"src": labels.name, "structures": 8}}
    record_run(logs / "predicted", mode="predict", checkpoint=checkpoint, folder=str(run_directory), datasets=datasets)
    record_run(logs / "relaxed", mode="run-relaxations", checkpoint=checkpoint, folder=str(run_directory))
    task = {"relaxation_fmax": 0.05, "relax_opt": {"traj_dir": "kept"}}
    (logs / "relaxed" / "config-1234.yml").write_text(yaml.safe_dump({"task": task}))
    relax_slabs(run_directory / "kept" / "relaxations" / "part-0")
    (run_directory / "kept" / "relaxations" / "part-0" / "trajectories").rename(run_directory / "moved")
    for path in (run_directory / "moved").glob("*.traj"):
        path.rename(run_directory / "kept" / path.name)
    return run_directory


def test_a_runs_own_predictions_and_relaxations_are_found(full_run: Path, tmp_path: Path) -> None:
    written = write_report(full_run, tmp_path / "report.html", adsorbml=write_campaign(tmp_path / "campaign"))
    assert written.missing == ()
    assert written.sections == (
        "Learning curves",
        "Learning rate and gradient norm",
        "Predictions and labels",
        "Errors by element and by force",
        "Relaxations",
        "AdsorbML",
        "Configuration",
        "Run",
    )
    page = written.path.read_text()
    assert "3 converged to forces below 0.05" in page
    assert page.count("<h2") == 8


def test_labels_that_do_not_fit_are_told_and_the_rest_is_shown(full_run: Path, tmp_path: Path) -> None:
    np.savez(full_run / "results/predicted/s2ef_predictions.npz", ids=["a"], energy=np.zeros(1))
    written = write_report(full_run, tmp_path / "report.html")
    assert "Relaxations" in written.sections
    assert "Predictions and labels" not in written.sections
    assert any("8 structures have no prediction" in one for one in written.missing)


def test_what_was_asked_for_and_cannot_be_read_is_an_error(run_directory: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give --predictions and --against, or neither"):
        write_report(run_directory, tmp_path / "report.html", predictions=tmp_path / "a.npz")
    with pytest.raises(ValueError, match="--trajectories belong to --relaxations"):
        write_report(run_directory, tmp_path / "report.html", trajectories=tmp_path)
    with pytest.raises(ValueError, match="nothing to report"):
        write_report(None, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_report_needs_no_run(tmp_path: Path) -> None:
    relax_slabs(tmp_path / "work")
    written = write_report(None, tmp_path / "slabs.html", relaxations=tmp_path / "work")
    assert written.sections == ("Relaxations",)
    assert len(written.missing) == 2
