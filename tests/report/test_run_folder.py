"""Which run somebody means by a path."""

import os
import re
from pathlib import Path

import pytest

from ev2_plugin.report.run_folder import find_run, made_from
from helpers.recorded_runs import record_run


@pytest.mark.parametrize(
    "where",
    [".", "logs/local/first", "logs/local/first/metrics.jsonl", "checkpoints/first", "checkpoints/first/best.pt"],
)
def test_a_run_is_found_by_any_folder_of_it(run_directory: Path, where: str) -> None:
    (run_directory / "checkpoints" / "first").mkdir(parents=True)
    (run_directory / "checkpoints" / "first" / "best.pt").touch()
    run = find_run(run_directory / where)
    assert (run.logs, run.directory, run.mode) == (run_directory / "logs/local/first", run_directory, "train")


def test_the_training_logged_last_is_found_and_no_later_prediction(run_directory: Path) -> None:
    for number, (name, mode) in enumerate([("second", "train"), ("third", "predict")], start=1):
        record_run(run_directory / "logs/wandb" / name, mode=mode)
        later = (run_directory / "logs/local/first/metrics.jsonl").stat().st_mtime + 100 * number
        os.utime(run_directory / "logs/wandb" / name / "run.json", (later, later))
    assert find_run(run_directory).name == "second"


def test_only_predictions_of_the_runs_own_checkpoint_are_of_it(run_directory: Path) -> None:
    record_run(run_directory / "logs/local/mine", mode="predict", checkpoint="runs/checkpoints/first/best.pt")
    record_run(run_directory / "logs/local/other", mode="predict", checkpoint="runs/checkpoints/second/best.pt")
    run = find_run(run_directory)
    found = made_from(run, "predict")
    assert found is not None
    assert found.name == "mine"
    assert made_from(run, "run-relaxations") is None
    assert made_from(found, "predict") is found


def test_a_folder_without_a_run_is_refused_with_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"{re.escape(str(tmp_path))} holds no run: neither metrics.jsonl"):
        find_run(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        find_run(tmp_path / "nowhere")


def test_a_damaged_record_is_named(run_directory: Path) -> None:
    (run_directory / "logs/local/first/run.json").write_text('{"attempts": 3}')
    with pytest.raises(ValueError, match=r"run.json is not the record of a run"):
        find_run(run_directory)
