"""`run-relaxations` that is killed at any moment, or shared by processes, ends with the files of an undisturbed run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch

from ev2_plugin.integration import launcher
from helpers import kill_and_restart, tiny_s2ef
from helpers.relaxation_sets import SIDS, config, write_set
from helpers.trainers import make_trainer

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("restored_process_state")]

RESULTS = ("relaxed_positions.npz", "relaxed_energies.npz", "metrics.json", "not_converged.csv")
LINES = ("relaxed.jsonl", "relaxed.positions")
LONG = {"relaxation_steps": 40, "relaxation_fmax": 0.005, "trajectories": "full"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a set, a config on it and a checkpoint of a model with random weights."""
    folder = tmp_path_factory.mktemp("prepared")
    content = config(write_set(folder / "set"), **LONG)
    tiny_s2ef.write_config(folder / "run.yml", content)
    torch.manual_seed(0)
    make_trainer(content, folder).save(checkpoint_file="checkpoint.pt", training_state=True)
    return folder


def command(prepared: Path, run_dir: Path, *more: str) -> list[str]:
    (checkpoint,) = prepared.glob("checkpoints/*/checkpoint.pt")
    flags = ["--mode", "run-relaxations", "--config-yml", str(prepared / "run.yml"), "--cpu"]
    return [*flags, "--checkpoint", str(checkpoint), "--run-dir", str(run_dir), "--timestamp-id", "run", *more]


@pytest.fixture(scope="module")
def undisturbed(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    environment = dict(os.environ)
    launcher.main(command(prepared, folder))
    os.environ.clear()
    os.environ.update(environment)
    return folder / "results" / "run"


def test_killed_and_started_again(prepared: Path, undisturbed: Path, tmp_path: Path) -> None:
    results, kills = tmp_path / "results" / "run", 4
    program = [sys.executable, kill_and_restart.__file__, "0", str(kills), str(results / "relaxations" / "part-0")]
    done = subprocess.run(
        [*program, "fairchem", *command(prepared, tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"killed {kills}"  # so many starts did not end by themselves
    for name in RESULTS:
        assert (results / name).read_bytes() == (undisturbed / name).read_bytes(), name
    for name in LINES:
        mine, theirs = (folder / "relaxations" / "part-0" / name for folder in (results, undisturbed))
        assert mine.read_bytes() == theirs.read_bytes(), name
    trajectories = sorted((results / "relaxations" / "trajectories").iterdir())
    assert [path.name for path in trajectories] == sorted(f"{sid}.traj" for sid in SIDS)
    for path in trajectories:
        other = undisturbed / "relaxations" / "trajectories" / path.name
        for mine, theirs in zip(ase.io.read(path, ":"), ase.io.read(other, ":"), strict=True):
            np.testing.assert_array_equal(mine.positions, theirs.positions)
            np.testing.assert_array_equal(mine.get_forces(), theirs.get_forces())
            assert mine.get_potential_energy() == theirs.get_potential_energy()


def test_two_processes_relax_what_one_does(prepared: Path, undisturbed: Path, tmp_path: Path) -> None:
    steps = 5
    os.environ["OMP_NUM_THREADS"] = "1"
    launcher.main(command(prepared, tmp_path, "--num-gpus", "2", f"--task.relaxation_steps={steps}"))
    results = tmp_path / "results" / "run"
    with np.load(results / "relaxed_positions.npz") as file, np.load(results / "relaxed_energies.npz") as energies:
        assert file["ids"].tolist() == energies["ids"].tolist() == [str(sid) for sid in SIDS]
        positions = dict(zip(SIDS, np.split(file["pos"], file["chunk_idx"]), strict=True))
        energy = dict(zip(SIDS, energies["energy"], strict=True))
    for sid in SIDS:  # the run of one process passed by here
        frames = ase.io.read(undisturbed / "relaxations" / "trajectories" / f"{sid}.traj", ":")
        frame = frames[min(steps, len(frames) - 1)]
        np.testing.assert_allclose(positions[sid], frame.positions, atol=1e-5)
        assert energy[sid] == pytest.approx(frame.get_potential_energy(), abs=1e-5)
    shares = [(results / "relaxations" / f"part-{rank}" / "relaxed.jsonl").read_text() for rank in range(2)]
    assert [len(share.splitlines()) for share in shares] == [3, 3]
    assert {path.stem for path in (results / "relaxations" / "trajectories").iterdir()} == {str(sid) for sid in SIDS}
