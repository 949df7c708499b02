"""A campaign's relaxations: shards here, killed and begun again, in jobs, with a model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms

from ev2_plugin.adsorbml.campaign import Campaign
from ev2_plugin.adsorbml.ground_truth import collect_targets
from ev2_plugin.adsorbml.shards import GroundTruth, count_shards, energy_kind, shard_folder
from ev2_plugin.integration.adsorbml_relaxation import (
    Allocation,
    Machine,
    run_shard,
    run_shards_here,
    settle_relaxation,
    submit_shards,
)
from ev2_plugin.integration.loading import load_potential
from ev2_plugin.potential.structures import from_atoms
from ev2_plugin.relax.folder import read_relaxed
from helpers import tiny_s2ef
from helpers.adslabs import adsorbed, tagged_slab
from helpers.campaigns import write_placements
from helpers.models import fill_by_name
from helpers.trainers import config, make_trainer

EMT = {"calculator": "emt", "steps": 12}
RESULTS = ("relaxed.jsonl", "relaxed.positions")


@pytest.fixture(autouse=True)
def one_thread_per_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def make_campaign(folder: Path, count: int = 5) -> Campaign:
    """Oxygen at random places of two slabs."""
    made = Campaign(folder)
    rng = np.random.default_rng(0)
    for metal in ("Cu", "Pt"):
        slab = tagged_slab(metal, (2, 2, 2))
        slab.set_constraint(FixAtoms(mask=slab.get_tags() == 0))
        initial = {}
        for number in range(count):
            atoms = adsorbed(slab, Atoms("O"), atom=4 + number % 4)
            atoms.positions[-1, :2] += rng.uniform(-1, 1, 2)
            initial[f"random-{number:03d}"] = atoms
        write_placements(made, f"{metal}-O", slab, Atoms("O"), initial)
    return made


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    return make_campaign(tmp_path / "campaign")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Results of one shard, by structure."""
    campaign = make_campaign(tmp_path_factory.mktemp("undisturbed"))
    settle_relaxation(campaign, EMT)
    run_shard(campaign, 0, Machine())
    return {one.id: one for one in read_relaxed(shard_folder(campaign, 0))}


def check_same(campaign: Campaign, undisturbed: dict[str, Any], shards: int) -> None:
    found = [one for shard in range(shards) for one in read_relaxed(shard_folder(campaign, shard))]
    assert sorted(one.id for one in found) == sorted(undisturbed)
    for one in found:
        expected = undisturbed[one.id]
        np.testing.assert_allclose(one.positions, expected.positions, atol=1e-12)
        assert (one.steps, one.converged) == (expected.steps, expected.converged)
    assert all(one.complete for one in count_shards(campaign))
    assert energy_kind(campaign) == "total"


def test_shards_in_processes_of_their_own_do_what_one_does(campaign: Campaign, undisturbed: dict[str, Any]) -> None:
    settle_relaxation(campaign, {**EMT, "shards": 2})
    seen: list[tuple[int, int]] = []
    run_shards_here(campaign, Machine(), lambda *count: seen.append(count))
    check_same(campaign, undisturbed, 2)
    assert seen[-1] == (10, 10)
    written = (shard_folder(campaign, 0) / RESULTS[0]).stat().st_mtime_ns
    run_shards_here(campaign, Machine(), lambda *count: seen.append(count))
    assert (shard_folder(campaign, 0) / RESULTS[0]).stat().st_mtime_ns == written


def test_a_killed_shard_goes_on_and_ends_with_the_same_files(tmp_path: Path) -> None:
    calm, killed = make_campaign(tmp_path / "calm", 12), make_campaign(tmp_path / "killed", 12)
    few = Machine(max_structures=2)
    for one in (calm, killed):
        settle_relaxation(one, {**EMT, "shards": 2})
    run_shard(calm, 1, few)
    folder = shard_folder(killed, 1)
    program = (
        "from pathlib import Path\n"
        "from ev2_plugin.adsorbml.campaign import Campaign\n"
        "from ev2_plugin.integration.adsorbml_relaxation import Machine, run_shard\n"
        "from ev2_plugin.relax import folder\n"
        "folder.SHARE_OF_TIME = float('inf')\n"  # a snapshot at every step: on a busy machine there may be none
        f"run_shard(Campaign(Path({str(killed.folder)!r})), 1, Machine(max_structures=2))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 120
    while not (folder / RESULTS[0]).exists() or (folder / RESULTS[0]).stat().st_size == 0:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    (before,) = [one for one in count_shards(killed) if one.shard == 1]
    assert before.done < before.total == 12
    assert not before.complete
    run_shard(killed, 1, few)
    for name in RESULTS:
        assert (folder / name).read_bytes() == (shard_folder(calm, 1) / name).read_bytes()


def test_jobs_of_a_cluster_do_the_open_shards(campaign: Campaign, undisturbed: dict[str, Any]) -> None:
    settle_relaxation(campaign, {**EMT, "shards": 2})
    run_shard(campaign, 1, Machine())
    jobs = submit_shards(campaign, Machine(), Allocation(gpus=0, hours=0.1, cluster="local"))
    assert len(jobs) == 1
    jobs[0].result()
    check_same(campaign, undisturbed, 2)
    assert submit_shards(campaign, Machine(), Allocation(gpus=0, cluster="local")) == []


def test_an_error_in_one_shard_disturbs_no_other(campaign: Campaign) -> None:
    path = campaign.placements / "Pt-O.extxyz"
    path.write_text(path.read_text().replace("Pt ", "Fe "))  # EMT knows no iron
    settle_relaxation(campaign, {**EMT, "shards": 2})
    with pytest.raises(RuntimeError, match=r"shard 1 failed: .*Pt-O\.random-000.*The same call goes on"):
        run_shards_here(campaign, Machine(), lambda *count: None)
    assert [one.complete for one in count_shards(campaign)] == [True, False]
    assert "No EMT-potential for Fe" in (shard_folder(campaign, 1) / "error.txt").read_text()
    with pytest.raises(ValueError, match=r"shards to do: 1 \(0 of 5\)"):
        energy_kind(campaign)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "one of --checkpoint and --calculator"),
        ({"calculator": "emt", "checkpoint": "x.pt"}, "one of --checkpoint and --calculator"),
        ({"calculator": "emt", "shards": 11}, "with 10 structures it must be 1 to 10"),
        ({"calculator": "emt", "shards": 0}, "--shards 0"),
        ({"calculator": "emt", "optimizer": "bfgs"}, "choose one of lbfgs, fire"),
        ({"calculator": "emt", "energies": "free"}, "choose one of total, adsorption"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(campaign: Campaign, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settle_relaxation(campaign, given)


def test_a_second_call_needs_to_say_nothing_and_cannot_say_otherwise(campaign: Campaign) -> None:
    first = settle_relaxation(campaign, {**EMT, "shards": 2})
    assert settle_relaxation(campaign, {}) == first
    assert (first["fmax"], first["optimizer"]) == (0.02, "lbfgs")
    with pytest.raises(ValueError, match="begun with shards 2, now it is 3"):
        settle_relaxation(campaign, {"shards": 3})


def test_the_ground_truth_is_relaxed_apart_from_it(campaign: Campaign) -> None:
    settle_relaxation(campaign, {"calculator": "ev2_plugin.adsorbml.disturbed_emt.DisturbedEMT", "steps": 3})
    truth = GroundTruth(campaign.folder)
    settings = settle_relaxation(truth, {"calculator": "emt", "steps": 40})
    assert (settings["fmax"], settings["optimizer"]) == (0.03, "lbfgs")
    with pytest.raises(ValueError, match="shards to do: 0"):
        collect_targets(campaign)
    run_shard(truth, 0, Machine())
    targets = collect_targets(campaign)
    results = {one.id: one for one in read_relaxed(shard_folder(truth, 0))}
    assert len(targets) == 10
    for one in targets:
        result = results[f"{one.system}.{one.config}"]
        assert one.scf_steps == one.ionic_steps == result.steps + 1
        assert one.energy in (result.energy, None)
    assert not shard_folder(campaign, 0).exists()


@pytest.fixture
def checkpoint(dataset: dict[str, Any], tmp_path: Path) -> Path:
    trainer = make_trainer(config(dataset, tiny_s2ef.HYDRA_MODEL), tmp_path)
    fill_by_name(trainer.model)
    return Path(trainer.save())


def test_a_model_relaxes_by_its_checkpoint(tmp_path: Path, checkpoint: Path) -> None:
    campaign = make_campaign(tmp_path / "campaign", 2)
    settle_relaxation(campaign, {"checkpoint": str(checkpoint), "steps": 2})
    with pytest.raises(ValueError, match="say by --energies whether they count as total or adsorption"):
        run_shard(campaign, 0, Machine("cpu"))
    settle_relaxation(campaign, {"energies": "adsorption"})
    run_shard(campaign, 0, Machine("cpu"))
    assert energy_kind(campaign) == "adsorption"
    potential = load_potential(checkpoint, "cpu")
    for one in read_relaxed(shard_folder(campaign, 0)):
        metal = one.id.split("-")[0]
        slab = tagged_slab(metal, (2, 2, 2))
        slab.set_constraint(FixAtoms(mask=slab.get_tags() == 0))
        atoms = adsorbed(slab, Atoms("O"))
        atoms.positions = one.positions
        assert one.energy == pytest.approx(potential(from_atoms([atoms], ["x"])).energy.item(), abs=1e-5)


def test_a_shard_does_not_go_on_with_other_weights(tmp_path: Path, checkpoint: Path) -> None:
    campaign = make_campaign(tmp_path / "campaign", 1)
    settle_relaxation(campaign, {"checkpoint": str(checkpoint), "steps": 1, "energies": "total"})
    run_shard(campaign, 0, Machine("cpu"))
    moved = checkpoint.rename(tmp_path / "moved.pt")
    settle_relaxation(campaign, {"checkpoint": str(moved)})
    run_shard(campaign, 0, Machine("cpu"))  # the same weights elsewhere
    with moved.open("ab") as file:
        file.write(b" ")
    with pytest.raises(ValueError, match=r"moved\.pt holds other weights than the campaign's relaxations"):
        run_shard(campaign, 0, Machine("cpu"))
    with pytest.raises(ValueError, match="'relax' was begun with weights "):  # though every shard is complete
        settle_relaxation(campaign, {"checkpoint": str(moved)})
