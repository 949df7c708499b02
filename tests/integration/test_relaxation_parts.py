"""The pieces of `run-relaxations`: settings, errors, files, progress, size of batches, parts of several processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import fcc111
from ase.calculators.emt import EMT
from ase.geometry import find_mic

from ev2_plugin.integration.estimate import Tracer, Use
from ev2_plugin.integration.potential import ModelPotential
from ev2_plugin.integration.registration import register
from ev2_plugin.integration.relaxation_budget import budget_of, edges_that_fit, fitting_budget, mean_size
from ev2_plugin.integration.relaxation_metrics import RelaxedPair, relaxation_metrics
from ev2_plugin.integration.relaxation_outputs import not_converged_lines, write_positions, write_results
from ev2_plugin.integration.relaxation_parts import COMPLETE, Parts
from ev2_plugin.integration.relaxation_progress import in_words
from ev2_plugin.integration.relaxation_settings import RelaxationRun, read_run
from ev2_plugin.integration.relaxation_source import read_source
from ev2_plugin.potential.ase_calculator import CalculatorPotential
from ev2_plugin.potential.structures import Structures
from ev2_plugin.relax.fire import FIRE
from ev2_plugin.relax.folder import TRAJECTORIES, Progress
from ev2_plugin.relax.group import Relaxed
from ev2_plugin.relax.lbfgs import LBFGS
from ev2_plugin.relax.settings import Budget, Settings
from ev2_plugin.relax.source import AtomsSource
from helpers.relaxation_sets import SIDS, samples
from helpers.tiny_s2ef import FLAT_MODEL


def run(**task: Any) -> RelaxationRun:
    return read_run({"task": task, "optim": {"batch_size": 3}, "cmd": {"results_dir": "results/now"}})


def test_settings_that_are_not_given() -> None:
    assert run() == RelaxationRun(
        optimizer=LBFGS(),
        fmax=0.02,
        max_steps=300,
        trajectories="none",
        batch_size=3,
        max_edges=None,
        most_batches=None,
        write_positions=False,
        folder=Path("results/now/relaxations"),
        trajectory_folder=Path("results/now/relaxations/trajectories"),
    )


@pytest.mark.parametrize(
    ("task", "kept", "folder", "trajectories"),
    [
        ({"relaxations_dir": "work"}, "none", "work", "work/trajectories"),
        ({"relax_opt": {"traj_dir": "t"}}, "full", "t/relaxations", "t"),
        ({"relax_opt": {"traj_dir": "t"}, "save_full_traj": False}, "ends", "t/relaxations", "t"),
        ({"relax_opt": {"traj_dir": "t"}, "trajectories": "none"}, "none", "t/relaxations", "t"),
        ({"relax_opt": {"traj_dir": "t"}, "relaxations_dir": "work"}, "full", "work", "t"),
        ({"trajectories": "ends", "save_full_traj": True}, "ends", "results/now/relaxations", None),
    ],
)
def test_where_things_go(task: dict[str, Any], kept: str, folder: str, trajectories: str | None) -> None:
    found = run(**task)
    assert found.trajectories == kept
    assert found.folder == Path(folder)
    assert found.trajectory_folder == Path(trajectories or f"{folder}/trajectories")


def test_optimisers() -> None:
    assert run(relax_opt={"maxstep": 0.1, "memory": 9}).optimizer == LBFGS(maxstep=0.1, memory=9)
    assert isinstance(run(relax_opt={"alpha": 70}).optimizer.alpha, float)
    assert run(relax_opt={"name": "fire", "maxstep": 0.04, "memory": 9}).optimizer == FIRE()
    assert run(relax_opt={"name": "fire", "fire": {"dt": 0.05}}).optimizer == FIRE(dt=0.05)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"relax_opt": {"name": "bfgs"}}, "relax_opt.name must be lbfgs or fire, got 'bfgs'"),
        ({"relax_opt": {"maxstep": -1}}, "maxstep must be a positive number"),
        ({"trajectories": "all"}, "task.trajectories must be one of none, ends, full, got 'all'"),
        ({"relax_max_edges": 0}, "task.relax_max_edges must be at least 1"),
        ({"num_relaxation_batches": 0}, "task.num_relaxation_batches must be at least 1"),
    ],
)
def test_settings_that_cannot_be(task: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(**task)


def pairs(count: int) -> list[RelaxedPair]:
    """Random structures; some lack labels, some are periodic in no or two directions, one has no free atom."""
    rng = np.random.default_rng(3)
    made = []
    for index in range(count):
        natoms = int(rng.integers(1, 6))
        pbc = torch.tensor([[True] * 3, [True, True, False], [False] * 3][index % 3])
        cell = torch.tensor(np.diag(rng.uniform(2, 5, 3)) + rng.uniform(0, 0.5, (3, 3))) * (
            pbc.unsqueeze(1) if index % 2 else 1.0
        )
        label = torch.tensor(rng.normal(size=(natoms, 3)))
        made.append(
            RelaxedPair(
                energy=float(rng.normal()),
                energy_label=None if index % 7 == 6 else float(rng.normal()),
                positions=label + torch.tensor(rng.normal(scale=rng.choice([0.05, 0.3, 3.0]), size=(natoms, 3))),
                positions_label=None if index % 5 == 4 else label,
                free=torch.tensor(rng.random(natoms) < 0.7) if index else torch.zeros(natoms, dtype=torch.bool),
                cell=cell,
                pbc=pbc,
            )
        )
    return made


def test_errors_by_hand_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ev2_plugin.integration.relaxation_metrics._AT_ONCE", 4)
    made = pairs(23)
    found = relaxation_metrics(iter(made))
    errors = np.array([pair.energy - pair.energy_label for pair in made if pair.energy_label is not None])
    assert found["is2re"]["energy_mae"] == {"value": pytest.approx(np.abs(errors).mean()), "count": len(errors)}
    assert found["is2re"]["energy_mse"]["value"] == pytest.approx((errors**2).mean())
    assert found["is2re"]["energy_within_threshold"]["value"] == pytest.approx((np.abs(errors) < 0.02).mean())
    distances, coordinates = [], []
    for pair in made:
        if pair.positions_label is not None and pair.free.any():
            difference = (pair.positions - pair.positions_label)[pair.free].numpy()
            cell = np.where(pair.pbc[:, None], pair.cell, np.eye(3))  # other vectors do not matter
            vectors, lengths = find_mic(difference, cell, pair.pbc.numpy())
            distances.append(lengths.mean())
            coordinates.append(vectors.ravel())
    within = np.mean([np.array(distances) < threshold for threshold in np.arange(0.01, 0.5, 0.001)])
    assert 0.1 < within < 0.9
    share = found["is2rs"]["positions_average_distance_within_threshold"]
    assert share == {"value": pytest.approx(within), "count": len(distances) * 490}
    everything = np.concatenate(coordinates)
    assert found["is2rs"]["positions_mae"]["value"] == pytest.approx(np.abs(everything).mean())
    assert found["is2rs"]["positions_mse"] == {
        "value": pytest.approx((everything**2).mean()),
        "count": len(everything),
    }
    assert relaxation_metrics([]) == {}


def relaxed(index: int, natoms: int = 2, *, converged: bool = True) -> Relaxed:
    return Relaxed(f"s{index}", index, -1.5 * index, 0.5, 0.01 * index, 7, converged, np.full((natoms, 3), index / 3))


def test_files(tmp_path: Path) -> None:
    ends = [relaxed(3, 1), relaxed(1, 4, converged=False), relaxed(2, 2)]
    lines = write_results(tmp_path, ends, {"is2re": {"energy_mae": {"value": 0.25, "count": 3}}}, positions=False)
    assert "is2re energy_mae 0.25 (of 3)" in lines
    assert "1 of 3 structures did not converge:" in lines
    assert not (tmp_path / "relaxed_positions.npz").exists()
    assert (tmp_path / "not_converged.csv").read_text().splitlines()[1:] == ["s1,7,0.01,-1.500000"]
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert (content["structures"], content["converged"], content["mean_steps"]) == (3, 2, 7)
    write_positions(tmp_path / "one.npz", [relaxed(3, 5)])
    with np.load(tmp_path / "one.npz") as file:
        assert file["chunk_idx"].shape == (0,)
        assert len(np.split(file["pos"], file["chunk_idx"])) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "metrics.json",
        "not_converged.csv",
        "one.npz",
        "relaxed_energies.npz",
    ]


def test_the_worst_come_first_and_not_all_of_them() -> None:
    lines = not_converged_lines([relaxed(index, converged=False) for index in range(30)], 100)
    assert lines[0] == "30 of 100 structures did not converge:"
    assert [line.split()[0] for line in lines[2:5]] == ["s29", "s28", "s27"]
    assert lines[-1] == "and 10 more with smaller forces: not_converged.csv has them all"
    assert not_converged_lines([], 3) == ["all 3 structures converged"]


def test_relaxations_say_how_far_they_are() -> None:
    reached = [Progress(50 + here, 100, min(4, 50 - here), here, seconds) for here, seconds in [(0, 0.1), (50, 220.0)]]
    assert [in_words(one) for one in reached] == [
        "50 of 100 structures (50 from before), 4 in work",
        "100 of 100 structures (50 from before), 0.227 structures/s",
    ]
    assert in_words(Progress(1, 9, 2, 1, 2.0)) == "1 of 9 structures, 2 in work, 0.5 structures/s, 16 s left"


class Counts:
    """A potential that knows sizes."""

    device = torch.device("cpu")

    def num_edges(self, structures: Any) -> list[int]:
        return (10 * structures.natoms).tolist()

    def __call__(self, structures: Any) -> Any:
        raise NotImplementedError


def test_batches_on_a_cpu_and_as_the_config_says(tmp_path: Path) -> None:
    source = read_source(samples(), None)
    assert budget_of(run(), source, Counts(), {}, tmp_path) == Budget(max_structures=3)
    assert budget_of(run(relax_max_edges=70), source, Counts(), {}, tmp_path) == Budget(max_edges=70)
    atoms, edges = mean_size(source, Counts())
    assert atoms == np.mean([len(data.pos) for data in samples()])
    assert edges == pytest.approx(10 * atoms)


def test_batches_that_fit_into_a_memory() -> None:
    config = {"model": {**FLAT_MODEL, "name": "ev2"}, "optim": {"ema_decay": 0.99}}
    register()
    tracer = Tracer(config, Use(False, "none"), "cuda")
    atoms, edges = 20, 240
    memories = [tracer.held.total + (2**23) * times for times in (1, 8, 64)]
    found = [edges_that_fit(tracer, memory, atoms, edges) for memory in memories]
    assert found == sorted(set(found))
    for memory, most in zip(memories, found, strict=True):
        multiple = most / edges
        assert tracer.profile(atoms * multiple, most).peak(atoms * multiple, most) <= memory
        more = multiple + 1
        assert tracer.profile(atoms * more, edges * more).peak(atoms * more, edges * more) > 0.9 * memory
    assert edges_that_fit(tracer, 1, atoms, edges) == edges  # one is always tried


class OnGPU(ModelPotential):
    """A model on a device that is not here."""

    device = torch.device("cuda", 0)
    num_edges = Counts.num_edges

    def __init__(self) -> None:
        self.autocast_dtype = None


def test_batches_fill_a_share_of_the_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    register()
    config = {"model": {**FLAT_MODEL, "name": "ev2"}, "optim": {}}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**27, 2**30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2**27)
    monkeypatch.setattr(Structures, "to", lambda structures, device: structures)
    source = read_source(samples(), None)
    found = fitting_budget(source, OnGPU(), config, tmp_path / "work")
    tracer = Tracer(config, Use(False, "none"), "cuda")
    assert found == Budget(max_edges=edges_that_fit(tracer, round(0.8 * 2**28), *mean_size(source, OnGPU())))
    assert found.max_edges > 10_000
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**20, 2**30))
    assert fitting_budget(source, OnGPU(), config, tmp_path / "work") == found  # started again


def test_shares_cover_everything_once() -> None:
    source = read_source(samples(), None)
    shares = [source.share(rank, 4) for rank in range(4)]
    assert sorted(name for share in shares for name in share.ids) == sorted(map(str, SIDS))
    for share in shares:
        for place, name in enumerate(share.ids):
            assert share[place].ids == (name,)
            assert share[place].natoms.tolist() == [len(samples()[SIDS.index(int(name))].pos)]
    assert len({share.digest for share in shares}) == 1


def test_another_number_of_processes_is_another_run(tmp_path: Path) -> None:
    source, potential = AtomsSource([fcc111("Cu", (1, 1, 2), vacuum=5.0)], ["slab"]), CalculatorPotential(EMT())

    def relax(processes: int) -> Parts:
        parts = Parts(tmp_path, processes)
        parts.relax(0, source, potential, Settings(max_steps=1), "ends", {"weights": "w"}, lambda reached: None)
        return parts

    (one,) = relax(1).read(["slab"])
    assert one.steps <= 1
    assert (tmp_path / "part-0" / COMPLETE).exists()
    with pytest.raises(ValueError, match="process: '0 of 1' there, '0 of 2' now"):
        relax(2)


def test_the_first_process_waits_for_the_others(tmp_path: Path) -> None:
    parts = Parts(tmp_path, 2)
    for rank in range(2):
        parts[rank].mkdir()
    (parts[0] / COMPLETE).touch()
    waited = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            (parts[1] / COMPLETE).touch()

    parts.wait(sleep)
    assert len(waited) == 3


def test_trajectories_that_were_half_collected(tmp_path: Path) -> None:
    parts, there = Parts(tmp_path / "work", 2), tmp_path / "there"
    for rank, name in enumerate(("a", "b")):
        (parts[rank] / TRAJECTORIES).mkdir(parents=True)
        (parts[rank] / TRAJECTORIES / f"{name}.traj").write_text(name)
    there.mkdir()
    (parts[0] / TRAJECTORIES / "a.traj").rename(there / "a.traj")  # as far as a killed run had come
    (there / "b.traj").write_text("half")
    parts.collect_trajectories(there)
    parts.collect_trajectories(there)
    assert {path.name: path.read_text() for path in there.iterdir()} == {"a.traj": "a", "b.traj": "b"}
