"""`ev2 adsorbml` from slabs to the success table, every number against a calculation of its own."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from fairchem.data.oc.utils import DetectTrajAnomaly
from typer.testing import CliRunner, Result

from ev2_plugin.adsorbml.disturbed_emt import DisturbedEMT
from ev2_plugin.cli.main import app
from ev2_plugin.integration import adsorbml_demo

pytestmark = pytest.mark.usefixtures("restored_process_state")

DISTURBANCE = {"amplitude": -0.08, "waves": [[2, 0, 0], [0, 2, 0]]}
STEPS = 25


def ev2(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["adsorbml", *map(str, arguments)])


def succeed(*arguments: object) -> str:
    result = ev2(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All stages, each as a user calls it."""
    folder = tmp_path_factory.mktemp("adsorbml") / "campaign"
    slabs = ["--slab", "Cu:111:2x2x2", "--slab", "Pt:111:2x2x2"]
    adsorbates = ["--adsorbate", "*O", "--adsorbate", "*CO"]
    limits = ["--sites", 3, "--min-width", 5, "--relax-with", "emt"]
    assert "28 structures of 4 systems placed" in succeed("place", folder, *slabs, *adsorbates, *limits)
    model = ["--calculator", "ev2_plugin.adsorbml.disturbed_emt.DisturbedEMT", "--keywords", json.dumps(DISTURBANCE)]
    succeed("relax", folder, *model, "--steps", STEPS, "--shards", 2, "--shard", 1)
    assert "of 28 structures (2 shards, to do: 0)" in succeed("status", folder)
    succeed("relax", folder, "--shard", 0)
    assert "selected:" in succeed("filter", folder)
    assert "12 selected of 4 systems" in succeed("select", folder, "-k", 3)
    assert "12 single points computed" in succeed("single-points", folder, "--calculator", "emt")
    assert "12 results, 0 missing, 0 not converged" in succeed("collect", folder)
    succeed("targets", folder, "--calculator", "emt", "--steps", STEPS, "--fmax", 0.5)
    said = succeed("score", folder, "-k", 4)
    assert "relaxed: total energies, single points: total energies, targets: total energies" in said
    return folder


def final_structures(folder: Path) -> dict[tuple[str, str], tuple[Atoms, int]]:
    """Initial structures moved to where the relaxations ended, with the steps these took, read without the package."""
    found = {}
    for shard in sorted(folder.glob("shard-*")):
        positions = np.fromfile(shard / "relaxed.positions").reshape(-1, 3)
        for line in (shard / "relaxed.jsonl").read_text().splitlines():
            row = json.loads(line)
            system, config = row["id"].rsplit(".", 1)
            frames = ase.io.read(folder.parent / "placements" / f"{system}.extxyz", ":")
            (atoms,) = [frame for frame in frames if frame.info["config"] == config]
            atoms.positions, positions = positions[: len(atoms)], positions[len(atoms) :]
            found[system, config] = (atoms, row["steps"])
        assert len(positions) == 0
    return found


def energy_and_fmax(atoms: Atoms, calculator: EMT) -> tuple[float, float]:
    probe = atoms.copy()
    probe.calc = calculator
    return probe.get_potential_energy(), np.linalg.norm(probe.get_forces(), axis=1).max()


def is_valid(folder: Path, system: str, config: str, final: Atoms) -> bool:
    """The host package's own detector, as the paper's scripts ask it."""
    frames = ase.io.read(folder / "placements" / f"{system}.extxyz", ":")
    (initial,) = [frame for frame in frames if frame.info["config"] == config]
    slab = ase.io.read(folder / "systems" / f"{system}.extxyz", 0)
    detector = DetectTrajAnomaly(
        initial,
        final,
        atoms_tag=initial.get_tags(),
        final_slab_atoms=slab,
        surface_change_cutoff_multiplier=1.5,
        desorption_cutoff_multiplier=1.5,
    )
    return not (
        detector.is_adsorbate_dissociated() or detector.is_adsorbate_desorbed() or detector.has_surface_changed()
    )


@pytest.fixture(scope="module")
def brute_force(campaign: Path) -> dict[str, Any]:
    """Success and speed-up for k = 1 to 4 from the final structures alone, with ASE and the host's detector."""
    ranked, truth, truth_steps = defaultdict(list), defaultdict(list), 0
    for (system, config), (atoms, _) in final_structures(campaign / "relaxations").items():
        if is_valid(campaign, system, config, atoms):
            ranked[system].append((energy_and_fmax(atoms, DisturbedEMT(**DISTURBANCE))[0], config, atoms))
    for (system, config), (atoms, steps) in final_structures(campaign / "ground_truth").items():
        energy, fmax = energy_and_fmax(atoms, EMT())
        truth_steps += steps + 1
        if is_valid(campaign, system, config, atoms) and fmax <= 0.5:
            truth[system].append(energy)
    scores = []
    for k in range(1, 5):
        successes = calculations = 0
        for system, energies in truth.items():
            best = sorted(ranked[system], key=lambda one: one[0])[: min(k, 3)]  # three were selected and computed
            points = [energy_and_fmax(atoms, EMT())[0] for _, _, atoms in best]
            calculations += len(points)
            successes += min(points, default=1e10) - min(energies) <= 0.1
        scores.append((successes, truth_steps / calculations))
    return {"ranked": ranked, "truth": truth, "scores": scores}


def test_success_and_speed_up_are_those_of_a_calculation_by_hand(campaign: Path, brute_force: dict[str, Any]) -> None:
    scores = json.loads((campaign / "scores.json").read_text())
    assert scores["systems"] == len(brute_force["truth"]) == 4
    assert [(one["successes"], one["scf_speedup"]) for one in scores["top_k"]] == [
        (successes, pytest.approx(speedup)) for successes, speedup in brute_force["scores"]
    ]
    assert len({successes for successes, _ in brute_force["scores"]}) > 1, "success should depend on k here"
    assert "| 1 |" in (campaign / "scores.md").read_text()
    assert (campaign / "success.png").read_bytes().startswith(b"\x89PNG")


def test_the_ranking_is_that_of_a_calculation_by_hand(campaign: Path, brute_force: dict[str, Any]) -> None:
    table = defaultdict(list)
    for row in rows(campaign / "ranking.csv"):
        table[row["system"]].append(row)
    assert set(table) == set(brute_force["ranked"])
    for system, found in table.items():
        expected = sorted(brute_force["ranked"][system], key=lambda one: one[0])
        assert [float(row["energy"]) for row in found] == pytest.approx([energy for energy, _, _ in expected])
        assert {row["config"] for row in found} == {config for _, config, _ in expected}
        assert [int(row["rank"]) for row in found] == list(range(1, len(found) + 1))
    assert [row for row in rows(campaign / "ranking.csv") if int(row["rank"]) <= 3] == rows(campaign / "top_k.csv")


def test_single_points_and_targets_are_energies_of_emt(campaign: Path) -> None:
    ends, truth = (final_structures(campaign / name) for name in ("relaxations", "ground_truth"))
    for row in rows(campaign / "single_points.csv"):
        atoms, _ = ends[row["system"], row["config"]]
        assert float(row["energy"]) == pytest.approx(energy_and_fmax(atoms, EMT())[0], abs=1e-9)
        assert (row["scf_steps"], row["ionic_steps"], row["converged"]) == ("1", "1", "true")
    for row in rows(campaign / "targets.csv"):
        atoms, steps = truth[row["system"], row["config"]]
        assert int(row["scf_steps"]) == steps + 1
        energy, fmax = energy_and_fmax(atoms, EMT())
        counts = is_valid(campaign, row["system"], row["config"], atoms) and fmax <= 0.5
        assert (row["energy"] == "") != counts
        if counts:
            assert float(row["energy"]) == pytest.approx(energy, abs=1e-9)


def test_a_second_call_of_any_stage_changes_nothing(campaign: Path) -> None:
    files = [path for path in sorted(campaign.rglob("*")) if path.is_file() and path.suffix != ".png"]
    before = {path: path.read_bytes() for path in files}
    succeed("place", campaign, "--slab", "Cu:111:2x2x2", "--adsorbate", "*O", "--sites", 3, "--min-width", 5)
    succeed("relax", campaign)
    succeed("filter", campaign)
    succeed("select", campaign, "-k", 3)
    assert "0 single points computed" in succeed("single-points", campaign, "--calculator", "emt")
    succeed("collect", campaign)
    succeed("targets", campaign)
    succeed("score", campaign, "-k", 4)
    assert {path: path.read_bytes() for path in files} == before


def test_status_says_what_is_done(campaign: Path) -> None:
    said = succeed("status", campaign)
    for line in (
        "place          28 structures (4 systems)",
        "relax          28 of 28 structures (2 shards)",
        "single-points  12 of 12 structures",
        "targets        28 of 28 structures (1 shards)",
        "score          1 files (scores.json)",
    ):
        assert line in said


def test_adsorption_energies_are_compared_where_one_side_has_them(campaign: Path, tmp_path: Path) -> None:
    """Targets as adsorption energies, single points as total ones: references of the systems' files join them."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("campaign.json", "ranking.csv", "single_points.csv", "targets.csv"):
        (copy / name).write_bytes((campaign / name).read_bytes())
    (copy / "systems").symlink_to(campaign / "systems")
    table = rows(copy / "targets.csv")
    for row in table:
        info = ase.io.read(campaign / "systems" / f"{row['system']}.extxyz", 0).info
        if row["energy"]:
            row["energy"] = str(float(row["energy"]) - info["slab_energy"] - info["adsorbate_energy"])
    with (copy / "targets.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, table[0].keys())
        writer.writeheader()
        writer.writerows(table)
    said = succeed("score", copy, "-k", 4, "--targets-are", "adsorption")
    assert "targets: adsorption energies" in said
    assert json.loads((copy / "scores.json").read_text()) == json.loads((campaign / "scores.json").read_text())
    alone = (copy / "success.png").read_bytes()
    succeed("score", copy, "-k", 4, "--targets-are", "adsorption", "--published")
    assert (copy / "success.png").read_bytes() != alone


def test_the_demo_goes_through_all_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adsorbml_demo, "SLABS", ("Pt:111:2x2x2",))
    monkeypatch.setattr(adsorbml_demo, "ADSORBATES", ("*O",))
    monkeypatch.setattr(adsorbml_demo, "SITES", 1)
    said = succeed("demo", tmp_path / "demo")
    assert "1 systems; model alone:" in said
    assert {"scores.json", "scores.md", "success.png"} <= {path.name for path in (tmp_path / "demo").iterdir()}
    scores = (tmp_path / "demo" / "scores.json").read_bytes()
    succeed("demo", tmp_path / "demo")
    assert (tmp_path / "demo" / "scores.json").read_bytes() == scores


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["place", "{}", "--slab", "no.cif", "--adsorbate", "*O"], "neither a file nor a name like"),
        (["place", "{}", "--slab", "Cu:111:2x2x2", "--adsorbate", "*O"], "--min-width"),
        (["relax", "{}", "--calculator", "emt"], "no placements"),
        (["filter", "{}"], "shards to do: all"),
        (["single-points", "{}"], "choose one of --write-vasp and --calculator"),
        (["single-points", "{}", "--write-vasp"], "'ev2 adsorbml select' makes it"),
        (["collect", "{}"], "'ev2 adsorbml select' makes it"),
        (["references", "{}"], "choose one of --calculator, --oc20 and --table"),
        (["targets", "{}", "--oc20-dense", "a.pkl", "b.pkl"], "a.pkl: no such file"),
        (["score", "{}"], "'ev2 adsorbml status' shows what is to be done"),
        (["status", "{}"], "no campaign"),
    ],
)
def test_a_stage_out_of_turn_says_what_is_missing(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = ev2(*(one.replace("{}", str(tmp_path / "none")) for one in arguments))
    assert result.exit_code == 1
    assert result.stderr.strip().startswith("error: ")
    assert message in result.stderr


def test_vasp_inputs_of_the_selected_structures(campaign: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("top_k.csv",):
        (copy / name).write_bytes((campaign / name).read_bytes())
    for name in ("placements", "relaxations"):
        (copy / name).symlink_to(campaign / name)
    assert "inputs of 12 structures written, 0 were there" in succeed("single-points", copy, "--write-vasp")
    assert "inputs of 0 structures written, 12 were there" in succeed("single-points", copy, "--write-vasp")
    assert "0 results, 12 missing" in succeed("collect", copy)
    ends = final_structures(campaign / "relaxations")
    for row in rows(copy / "top_k.csv"):
        written = ase.io.read(copy / "single_points" / f"{row['system']}.{row['config']}" / "POSCAR")
        expected, _ = ends[row["system"], row["config"]]
        order, other = (np.lexsort(one.positions.round(6).T) for one in (written, expected))
        np.testing.assert_allclose(written.positions[order], expected.positions[other], atol=1e-6)
