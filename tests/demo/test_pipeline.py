"""The whole demo on a tiny dataset, through the host's own command."""

import io
import json
import os
from collections.abc import Iterator

import ase.io
import numpy as np
import pytest
import yaml
from rich.console import Console

from ev2_plugin.data.lmdb import read_lmdb
from ev2_plugin.demo.pipeline import DemoResult, run_demo


@pytest.fixture(scope="module")
def console() -> Console:
    return Console(file=io.StringIO(), width=120)


@pytest.fixture(scope="module")
def result(tmp_path_factory, console) -> Iterator[DemoResult]:
    environment = dict(os.environ)
    yield run_demo(tmp_path_factory.mktemp("runs"), seed=3, quick=True, console=console)
    os.environ.clear()
    os.environ.update(environment)


def test_every_held_out_frame_is_predicted_and_every_system_relaxed(result):
    assert result.comparison.sids.tolist() == [8] * 4 + [9] * 4
    assert result.relaxations.systems == 2
    labels = [data.y for data in read_lmdb(result.folder / "data" / "s2ef" / "test" / "data.0000.lmdb")]
    assert result.comparison.energy.labels.tolist() == labels
    assert np.std(result.comparison.energy.predictions) > 0


def test_relaxations_move_atoms_and_are_followed(result):
    assert result.relaxations.distance != result.relaxations.start_distance
    trajectories = sorted((result.folder / "trajectories").glob("*.traj"))
    assert [path.name for path in trajectories] == ["8.traj", "9.traj"]
    assert all(len(ase.io.read(path, ":")) == 4 for path in trajectories)  # the start and three steps
    metrics = json.loads((result.folder / "results" / "run-relaxations" / "metrics.json").read_text())
    assert metrics["structures"] == 2
    assert metrics["is2re"]["energy_mae"]["value"] == pytest.approx(result.relaxations.energy_mae, abs=1e-5)


def test_figures_are_written(result):
    names = ["learning_curves.png", "energy_parity.png", "force_parity.png", "relaxations.png"]
    assert [path.name for path in result.figures] == names
    for path in result.figures:
        assert path.read_bytes().startswith(b"\x89PNG")


def test_the_terminal_shows_the_numbers_and_not_what_the_host_says(result, console):
    shown = console.file.getvalue()
    assert f"{result.comparison.energy.mae:.3f}" in shown
    assert f"{result.comparison.forces.mean_predictor_mae:.3f}" in shown
    assert f"{result.relaxations.converged}/2" in shown
    assert shown.count("validation errors") == 2
    assert str(result.folder) in shown
    assert "INFO" not in shown
    assert "INFO" in (result.folder / "host.log").read_text()


def test_the_configuration_is_one_that_a_user_can_run_again(result):
    config = yaml.safe_load((result.folder / "config.yml").read_text())
    assert config["includes"] == ["demo/s2ef.yml"]
    normalizer = config["dataset"]["train"]["transforms"]["normalizer"]
    energies = [data.y for data in read_lmdb(result.folder / "data" / "s2ef" / "train" / "data.0000.lmdb")]
    assert normalizer["energy"]["mean"] == pytest.approx(np.mean(energies))
    assert (result.folder / "checkpoints" / "train" / "best_checkpoint.pt").is_file()


def test_the_next_run_gets_a_folder_of_its_own(result, monkeypatch):
    from ev2_plugin.demo import pipeline

    monkeypatch.setattr(pipeline.time, "strftime", lambda pattern: result.folder.name)
    assert pipeline._new_folder(result.folder.parent).name == f"{result.folder.name}-2"
