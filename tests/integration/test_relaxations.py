"""`run-relaxations` of the plugin's trainer: against the host's own loop, by hand, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase.geometry import find_mic
from fairchem.core.common.relaxation.ml_relaxation import ml_relax
from fairchem.core.datasets.lmdb_dataset import data_list_collater
from fairchem.core.trainers import OCPTrainer

from ev2_plugin.integration.trainer import Trainer
from helpers.relaxation_sets import SIDS, config, samples, write_set
from helpers.trainers import make_trainer, weights

STEPS, FMAX = 12, 0.018


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def relaxed(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """A trainer that has relaxed the set, all frames kept."""
    folder = tmp_path_factory.mktemp("run")
    made = make_trainer(config(path, relax_opt={"traj_dir": str(folder / "traj")}), folder)
    made.run_relaxations()
    return made


def results(trainer: Trainer) -> Path:
    return Path(trainer.config["cmd"]["results_dir"])


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def trajectory(trainer: Trainer, sid: int) -> list[Any]:
    return ase.io.read(Path(trainer.config["task"]["relax_opt"]["traj_dir"]) / f"{sid}.traj", ":")


def relaxed_positions(trainer: Trainer) -> dict[int, np.ndarray]:
    found = arrays(results(trainer) / "relaxed_positions.npz")
    return dict(zip(SIDS, np.split(found["pos"], found["chunk_idx"]), strict=True))


def test_files_are_those_of_the_host_in_the_order_of_the_dataset(relaxed: Trainer) -> None:
    found = arrays(results(relaxed) / "relaxed_positions.npz")
    assert sorted(found) == ["chunk_idx", "ids", "pos"]
    assert found["ids"].tolist() == [str(sid) for sid in SIDS]
    assert found["pos"].dtype == np.float32
    natoms = [len(data.pos) for data in samples()]
    assert found["chunk_idx"].tolist() == np.cumsum(natoms)[:-1].tolist()
    assert len(found["pos"]) == sum(natoms)
    energies = arrays(results(relaxed) / "relaxed_energies.npz")
    assert energies["ids"].tolist() == found["ids"].tolist()
    assert energies["energy"].shape == (len(SIDS),)
    assert energies["energy"].dtype == np.float32


@pytest.mark.filterwarnings("ignore:Please use atoms.calc:FutureWarning")  # the host's way to write frames
def test_each_structure_goes_the_way_of_the_hosts_loop_alone(relaxed: Trainer, tmp_path: Path) -> None:
    optimizer = {"maxstep": 0.04, "memory": 50, "damping": 1.0, "alpha": 70.0}
    energies = dict(zip(SIDS, arrays(results(relaxed) / "relaxed_energies.npz")["energy"], strict=True))
    converged = []
    for index, sid in enumerate(SIDS):
        batch = data_list_collater([relaxed.relax_dataset[index]], otf_graph=True)
        alone = ml_relax(batch, relaxed, STEPS, FMAX, {**optimizer, "traj_dir": str(tmp_path)})
        np.testing.assert_allclose(relaxed_positions(relaxed)[sid], alone.pos.numpy(), atol=2e-5)
        assert energies[sid] == pytest.approx(alone.energy.item(), abs=2e-6)
        forces = alone.forces[alone.fixed == 0]
        converged.append(bool(forces.norm(dim=1).max() < FMAX))
        file = tmp_path / f"{batch.sid.tolist()[0] if torch.is_tensor(batch.sid) else batch.sid[0]}.traj"
        theirs = ase.io.read(file, ":") if file.exists() and file.stat().st_size else []
        for frame, other in zip(trajectory(relaxed, sid), theirs, strict=False):
            _, distances = find_mic(frame.positions - other.positions, frame.cell, frame.pbc)  # theirs are wrapped
            assert distances.max() < 2e-5
    assert {True, False} == set(converged)  # both ends are covered
    left = csv.DictReader(io.StringIO((results(relaxed) / "not_converged.csv").read_text()))
    assert [int(row["id"]) for row in left] == [sid for sid, good in zip(SIDS, converged, strict=True) if not good]


def test_trajectories_go_from_the_start_to_the_relaxed_structure(relaxed: Trainer) -> None:
    energies = arrays(results(relaxed) / "relaxed_energies.npz")["energy"]
    steps = {}
    for start, energy in zip(samples(), energies, strict=True):
        frames = trajectory(relaxed, start.sid)
        steps[start.sid] = len(frames) - 1
        np.testing.assert_array_equal(frames[0].positions.astype(np.float32), start.pos.numpy())
        np.testing.assert_array_equal(frames[-1].positions, relaxed_positions(relaxed)[start.sid])
        assert frames[-1].get_potential_energy() == pytest.approx(energy, abs=1e-6)
        free = start.fixed.numpy() == 0
        fmax = np.linalg.norm(frames[-1].get_forces(apply_constraint=False)[free], axis=1).max()
        assert fmax < FMAX or steps[start.sid] == STEPS
        assert (frames[-1].positions[~free] == frames[0].positions[~free]).all()
        assert (frames[-1].pbc == start.pbc.numpy()).all()
    assert len(set(steps.values())) > 1


@pytest.mark.parametrize("kept", ["ends", "none"])
def test_fewer_frames(kept: str, relaxed: Trainer, path: Path, tmp_path: Path) -> None:
    trainer = make_trainer(config(path, trajectories=kept), tmp_path)
    trainer.run_relaxations()
    folder = results(trainer) / "relaxations" / "trajectories"
    assert folder.exists() == (kept == "ends")
    for sid in SIDS if kept == "ends" else ():
        first, last = ase.io.read(folder / f"{sid}.traj", ":")
        whole = trajectory(relaxed, sid)
        np.testing.assert_array_equal(first.positions, whole[0].positions)
        np.testing.assert_array_equal(last.positions, whole[-1].positions)
    for name in ("relaxed_positions.npz", "relaxed_energies.npz"):
        assert (results(trainer) / name).read_bytes() == (results(relaxed) / name).read_bytes()


def test_errors_by_hand(relaxed: Trainer) -> None:
    energies = arrays(results(relaxed) / "relaxed_energies.npz")["energy"].astype(float)
    errors = np.abs(energies - [data.y_relaxed for data in samples()])
    coordinates, distances = [], []
    for data in samples():
        free, difference = data.fixed.numpy() == 0, relaxed_positions(relaxed)[data.sid] - data.pos_relaxed.numpy()
        vectors, lengths = find_mic(difference.astype(float), data.cell.numpy()[0], data.pbc.numpy()[0])
        coordinates.append(vectors[free].ravel())
        distances.append(lengths[free].mean())
    thresholds = np.arange(0.01, 0.5, 0.001)
    within = (np.array(distances)[:, None] < thresholds).mean()
    assert 0 < within < 1
    everything = np.concatenate(coordinates)
    expected = {
        "is2re": {
            "energy_mae": (errors.mean(), len(SIDS)),
            "energy_mse": ((errors**2).mean(), len(SIDS)),
            "energy_within_threshold": ((errors < 0.02).mean(), len(SIDS)),
        },
        "is2rs": {
            "positions_average_distance_within_threshold": (within, len(SIDS) * len(thresholds)),
            "positions_mae": (np.abs(everything).mean(), len(everything)),
            "positions_mse": ((everything**2).mean(), len(everything)),
        },
    }
    found = json.loads((results(relaxed) / "metrics.json").read_text())
    for task, metrics in expected.items():
        assert set(found[task]) == set(metrics)
        for name, (value, count) in metrics.items():
            assert found[task][name]["value"] == pytest.approx(value, abs=1e-6), name
            assert found[task][name]["count"] == count, name


class Recorder:
    """A logger."""

    def __init__(self) -> None:
        self.logged: list[tuple[dict[str, float], int, str]] = []

    def log(self, values: dict[str, float], step: int, split: str) -> None:
        self.logged.append((values, step, split))


def test_errors_are_logged_and_structures_without_labels_have_none(path: Path, tmp_path: Path) -> None:
    trainer = make_trainer(config(path, relaxation_steps=1), tmp_path / "labels")
    trainer.logger = Recorder()
    trainer.run_relaxations()
    ((values, step, split),) = trainer.logger.logged
    assert (step, split) == (0, "val")
    found = json.loads((results(trainer) / "metrics.json").read_text())
    assert values["is2re_energy_mae"] == found["is2re"]["energy_mae"]["value"]
    assert values["is2rs_positions_mae"] == found["is2rs"]["positions_mae"]["value"]

    bare = samples()
    for data in bare:
        del data.y_relaxed, data.pos_relaxed
    trainer = make_trainer(config(write_set(tmp_path / "bare", bare), relaxation_steps=1), tmp_path / "none")
    trainer.logger = Recorder()
    trainer.run_relaxations()
    assert trainer.logger.logged == []
    assert sorted(json.loads((results(trainer) / "metrics.json").read_text())) == [
        "converged",
        "mean_steps",
        "structures",
    ]


def test_averaged_weights_predict_and_go_back(relaxed: Trainer, path: Path, tmp_path: Path) -> None:
    trainer = make_trainer(config(path), tmp_path)
    for parameter in trainer.model.parameters():
        parameter.data.mul_(1.5)  # the averages keep what they started with
    before = weights(trainer)
    trainer.run_relaxations()
    name = "relaxed_positions.npz"
    assert (results(trainer) / name).read_bytes() == (results(relaxed) / name).read_bytes()
    assert all(torch.equal(value, before[key]) for key, value in weights(trainer).items())


def test_weights_go_back_after_an_error_too(tmp_path: Path) -> None:
    spoilt = samples()
    spoilt[3].pos[0] = spoilt[3].pos[1]
    trainer = make_trainer(config(write_set(tmp_path / "set", spoilt)), tmp_path)
    for parameter in trainer.model.parameters():
        parameter.data.mul_(1.5)
    before = weights(trainer)
    with pytest.raises(ValueError, match="Å apart"):
        trainer.run_relaxations()
    assert all(torch.equal(value, before[key]) for key, value in weights(trainer).items())


SCHNET = {"name": "schnet", "hidden_channels": 16, "num_filters": 16, "num_interactions": 1, "num_gaussians": 10}


def test_a_model_of_the_host(dataset: dict[str, Any], tmp_path: Path) -> None:
    """Its forces are gradients, and its batches must be of one periodicity."""
    content = config(Path(dataset["src"]), relaxation_steps=3)
    content["model"] = {**SCHNET, "cutoff": 4.0, "use_pbc": True, "regress_forces": True, "otf_graph": True}
    trainer = make_trainer(content, tmp_path)
    trainer.run_relaxations()
    found = arrays(results(trainer) / "relaxed_positions.npz")
    optimizer = {"maxstep": 0.04, "memory": 50, "damping": 1.0, "alpha": 70.0}
    for index, positions in enumerate(np.split(found["pos"], found["chunk_idx"])):
        batch = data_list_collater([trainer.relax_dataset[index]], otf_graph=True)
        with torch.no_grad():
            alone = ml_relax(batch, trainer, 3, FMAX, optimizer)
        np.testing.assert_allclose(positions, alone.pos.numpy(), atol=2e-5)


def test_some_batches(path: Path, tmp_path: Path) -> None:
    trainer = make_trainer(config(path, num_relaxation_batches=2, relaxation_steps=1, write_pos=False), tmp_path)
    trainer.run_relaxations()
    assert arrays(results(trainer) / "relaxed_energies.npz")["ids"].tolist() == [str(sid) for sid in SIDS[:4]]
    assert not (results(trainer) / "relaxed_positions.npz").exists()


def test_fire(relaxed: Trainer, path: Path, tmp_path: Path) -> None:
    settings = {"name": "fire", "fire": {"maxstep": 0.1}, "maxstep": 0.04, "memory": 50}
    trainer = make_trainer(config(path, relax_opt=settings), tmp_path)
    trainer.run_relaxations()
    run = json.loads((results(trainer) / "relaxations" / "part-0" / "run.json").read_text())
    assert run["optimizer_name"] == "FIRE"
    assert run["optimizer"]["maxstep"] == 0.1
    assert not np.allclose(relaxed_positions(trainer)[31], relaxed_positions(relaxed)[31], atol=1e-3)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda data, number: setattr(data, "sid", 7),
            r"dataset\.relax, .*: 1 ids belong to more than one structure \('7'\)",
        ),
        (lambda data, number: setattr(data, "sid", f"a/{number}"), r"cannot be names of files \('a/0', 'a/1'\)"),
        (lambda data, number: delattr(data, "sid"), "sample 0 of dataset.relax has no 'sid'"),
    ],
)
def test_unfit_ids_are_refused_before_anything_runs(edit: Any, message: str, tmp_path: Path) -> None:
    stored = samples()
    for number, data in enumerate(stored[:2]):
        edit(data, number)
    trainer = make_trainer(config(write_set(tmp_path / "set", stored)), tmp_path)
    with pytest.raises(ValueError, match=message):
        trainer.run_relaxations()
    assert list(results(trainer).iterdir()) == []


def test_structures_that_do_not_say_what_is_fixed_are_refused(tmp_path: Path) -> None:
    stored = samples()
    del stored[0].fixed
    trainer = make_trainer(config(write_set(tmp_path / "set", stored)), tmp_path)
    with pytest.raises(ValueError, match="structure 31 has no 'fixed'"):
        trainer.run_relaxations()


def test_another_run_is_not_continued(path: Path, tmp_path: Path) -> None:
    folder = str(tmp_path / "work")
    task = {"relaxations_dir": folder, "relaxation_steps": 1}
    make_trainer(config(path, **task), tmp_path / "1").run_relaxations()

    def refused(match: str, seed: int = 0, of: Path = path, **changes: Any) -> None:
        trainer = make_trainer(config(of, **{**task, **changes}), tmp_path / "2", seed=seed)
        with pytest.raises(ValueError, match=f"work/part-0 holds a run of its own, which differs .*{match}"):
            trainer.run_relaxations()

    refused("fmax: 0.018 there, 0.05 now", relaxation_fmax=0.05)
    refused("max_steps: 1 there, 2 now", relaxation_steps=2)
    refused("trajectories: 'none' there, 'ends' now", trajectories="ends")
    refused("optimizer", relax_opt={"name": "fire"})
    refused("weights", seed=1)
    moved = samples()
    moved[2].pos[0, 0] += 0.01
    refused("dataset", of=write_set(tmp_path / "moved", moved))

    again = make_trainer(config(path, **task), tmp_path / "3")
    again.model.register_forward_pre_hook(lambda *_: pytest.fail("nothing is left to do"))
    again.run_relaxations()
    for name in ("relaxed_positions.npz", "relaxed_energies.npz", "metrics.json"):
        assert (results(again) / name).read_bytes() == (tmp_path / "1/results/test" / name).read_bytes()


def test_cells_are_relaxed_by_the_host(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr(OCPTrainer, "run_relaxations", lambda trainer: called.append(trainer))
    trainer = make_trainer(config(path, relax_cell=True), tmp_path)
    trainer.run_relaxations()
    assert called == [trainer]
    trainer.config["task"]["relax_opt"]["name"] = "fire"
    with pytest.raises(ValueError, match=r"fairchem's own loop, which does not read task\.relax_opt\.name"):
        trainer.run_relaxations()
