"""From the files of a campaign to its tables, scores and figure."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from ev2_plugin.adsorbml.campaign import Campaign
from ev2_plugin.adsorbml.checking import check_campaign
from ev2_plugin.adsorbml.figure import save_success_figure
from ev2_plugin.adsorbml.post_processing import EnergyKinds, check_relaxations, rank_relaxed, score_campaign
from ev2_plugin.adsorbml.published import MODELS
from ev2_plugin.adsorbml.records import RankedConfiguration, RelaxedConfiguration, SinglePoint, Target
from ev2_plugin.adsorbml.success_rate import score
from ev2_plugin.adsorbml.surface_system import read_reference_energy
from ev2_plugin.adsorbml.tables import read_table, write_table
from helpers.adslabs import adsorbed, tagged_slab
from helpers.campaigns import relaxed, write_placements, write_relaxations

CO = Atoms("CO", [[0, 0, 0], [0, 0, 1.15]])
SYSTEMS = ("6_1134_23", "Cu-a3.6-CO")
CONFIGS = ("random-000", "heuristic-001", "random-002", "random-010")
TOTAL = EnergyKinds("total", "total", "total")


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    """Two systems of four structures: normal, dissociated, desorbed, normal; relaxed in two shards."""
    made = Campaign(tmp_path)
    slab = tagged_slab()
    slab.info = {"slab_energy": -10.0, "adsorbate_energy": -2.0}
    shards: list[list] = [[], []]
    for system in SYSTEMS:
        initial = {config: adsorbed(slab, CO, atom=18 + index) for index, config in enumerate(CONFIGS)}
        write_placements(made, system, slab, CO, initial)
        final = {config: one.positions.copy() for config, one in initial.items()}
        final["heuristic-001"][-1, 2] += 3.0
        final["random-002"][-2:, 2] += 3.0
        for index, (config, positions) in enumerate(final.items()):
            shards[index % 2].append(relaxed(system, config, positions, energy=-12.0 - index, index=index))
    for number, results in enumerate(shards):
        write_relaxations(made.relaxations / f"shard-{number:03d}", results)
    return made


def test_tables_follow_from_the_relaxations(campaign: Campaign) -> None:
    seen: list[tuple[int, int]] = []
    found = check_relaxations(campaign, on_progress=lambda done, total: seen.append((done, total)))
    assert read_table(campaign.relaxed, RelaxedConfiguration) == found
    assert [(one.system, one.config) for one in found] == [(system, config) for system in SYSTEMS for config in CONFIGS]
    assert [one.dissociated for one in found[:4]] == [False, True, False, False]
    assert [one.desorbed for one in found[:4]] == [False, False, True, False]
    assert [one.valid for one in found] == [True, False, False, True] * 2
    assert [(one.energy, one.fmax, one.steps, one.converged) for one in found[:2]] == [
        (-12.0, 0.01, 20, True),
        (-13.0, 0.01, 20, True),
    ]
    assert seen == [(4, 8), (8, 8)]
    best = rank_relaxed(campaign, k=1)
    assert best == read_table(campaign.top_k, RankedConfiguration)
    assert best == [RankedConfiguration(system, 1, "random-010", -15.0) for system in SYSTEMS]
    assert len(read_table(campaign.ranking, RankedConfiguration)) == 4


def test_several_processes_find_the_same(campaign: Campaign) -> None:
    alone = check_campaign(campaign, intercalation=True, workers=1, on_progress=None)
    assert check_campaign(campaign, intercalation=True, workers=2, on_progress=None) == alone


def test_missing_double_and_unknown_relaxations_are_named(campaign: Campaign) -> None:
    extra = campaign.relaxations / "shard-002"
    write_relaxations(extra, [relaxed("Cu-a3.6-CO", "random-999", np.zeros((29, 3)))])
    with pytest.raises(ValueError, match=r"without an initial structure: Cu-a3.6-CO.random-999"):
        check_relaxations(campaign)
    (extra / "relaxed.jsonl").write_text((campaign.relaxations / "shard-000" / "relaxed.jsonl").read_text())
    (extra / "relaxed.positions").write_bytes((campaign.relaxations / "shard-000" / "relaxed.positions").read_bytes())
    with pytest.raises(ValueError, match=r"shard-002: .* was relaxed in an earlier shard too"):
        check_relaxations(campaign)
    for path in (*extra.iterdir(), *(campaign.relaxations / "shard-001").iterdir()):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"not relaxed yet: 6_1134_23.heuristic-001, .* of 8 initial structures"):
        check_relaxations(campaign)
    assert not campaign.relaxed.exists()


def test_a_relaxation_of_other_atoms_is_refused(campaign: Campaign) -> None:
    for path in (campaign.relaxations / "shard-000").iterdir():
        path.unlink()
    (campaign.relaxations / "shard-000").rmdir()
    wrong = [relaxed(system, config, np.zeros((5, 3))) for system in SYSTEMS for config in CONFIGS[::2]]
    write_relaxations(campaign.relaxations / "shard-000", wrong)
    with pytest.raises(ValueError, match="relaxed with 5 atoms, its initial structure has 29"):
        check_relaxations(campaign)


def test_slabs_must_have_the_same_atoms_in_the_same_places(campaign: Campaign) -> None:
    slab = tagged_slab()
    initial = {config: adsorbed(slab, CO, atom=18 + index) for index, config in enumerate(CONFIGS)}
    turned = slab[::-1]
    write_placements(campaign, "Cu-a3.6-CO", turned, CO, initial)
    with pytest.raises(ValueError, match=r"CO.extxyz, random-000: coordinates of the slab differ .* third frame"):
        check_relaxations(campaign)
    write_placements(campaign, "Cu-a3.6-CO", tagged_slab("Ag"), CO, initial)
    with pytest.raises(ValueError, match="the slab has other atoms than it should"):
        check_relaxations(campaign)
    larger = slab.copy()
    larger.set_cell(slab.cell.array * 1.01)
    write_placements(campaign, "Cu-a3.6-CO", larger, CO, initial)
    with pytest.raises(ValueError, match="the slab has another cell than it should"):
        check_relaxations(campaign)
    write_placements(campaign, "Cu-a3.6-CO", initial["random-000"], CO, initial)
    with pytest.raises(ValueError, match="should be the clean slab, but has atoms of tag 2"):
        check_relaxations(campaign)


def test_placements_may_be_made_on_a_slab_that_was_not_relaxed(campaign: Campaign) -> None:
    slab = tagged_slab()
    initial = {config: adsorbed(slab, CO, atom=18 + index) for index, config in enumerate(CONFIGS)}
    after = slab.copy()
    after.positions[18:, 2] += 0.1
    write_placements(campaign, "Cu-a3.6-CO", after, CO, initial)
    with pytest.raises(ValueError, match="differ from the clean slab's by 0.9 Å"):
        check_relaxations(campaign)
    write_placements(campaign, "Cu-a3.6-CO", after, CO, initial, slab)
    assert [one.valid for one in check_relaxations(campaign)[4:]] == [True, False, False, True]


def test_the_slab_may_lie_in_the_next_cell(campaign: Campaign) -> None:
    slab = tagged_slab()
    slab.translate(2 * slab.cell[0] - slab.cell[1])
    slab.wrap()
    initial = {config: adsorbed(tagged_slab(), CO, atom=18 + index) for index, config in enumerate(CONFIGS)}
    write_placements(campaign, "Cu-a3.6-CO", slab, CO, initial)
    assert [one.valid for one in check_relaxations(campaign)[4:]] == [True, False, False, True]


def test_scores_are_written_for_people_and_programs(campaign: Campaign) -> None:
    check_relaxations(campaign)
    rank_relaxed(campaign, k=2)
    points = [SinglePoint(system, "random-010", -15.0, 30, 1, True) for system in SYSTEMS]
    write_table(campaign.single_point_table, points, SinglePoint)
    targets = [Target(SYSTEMS[0], "random-000", -14.95, 900, 60), Target(SYSTEMS[1], "random-002", -17.0, 600, 40)]
    write_table(campaign.targets, targets, Target)
    found = score_campaign(campaign, TOTAL, largest_k=2)
    written = json.loads(campaign.scores.read_text())
    assert [one["success_rate"] for one in written["top_k"]] == [0.5, 0.5] == [one.success_rate for one in found.top_k]
    assert written["top_k"][0]["scf_speedup"] == 1500 / 60
    assert written["potential_only"]["success_rate"] == 0.5
    assert "| 1 | 50.00% (1) | 25.00 | 50.00 | 0.00% | 0 |" in campaign.score_table.read_text()
    assert campaign.figure.read_bytes().startswith(b"\x89PNG")


def test_total_energies_become_adsorption_energies_where_kinds_differ(campaign: Campaign) -> None:
    write_table(campaign.ranking, [RankedConfiguration(SYSTEMS[0], 1, "random-000", -3.0)], RankedConfiguration)
    point = SinglePoint(SYSTEMS[0], "random-000", -15.0, 30, 1, True)
    write_table(campaign.single_point_table, [point], SinglePoint)
    target = Target(SYSTEMS[0], "random-000", -3.0, 900, 60)
    write_table(campaign.targets, [target], Target)
    kinds = EnergyKinds(relaxed="adsorption", single_points="total", targets="adsorption")
    found = score_campaign(campaign, kinds)
    assert (found.top_k[0].successes, found.top_k[0].much_better, found.potential_only.successes) == (1, 0, 1)
    turned = EnergyKinds(relaxed="total", single_points="adsorption", targets="total")
    write_table(campaign.ranking, [RankedConfiguration(SYSTEMS[0], 1, "random-000", -15.0)], RankedConfiguration)
    point = SinglePoint(SYSTEMS[0], "random-000", -3.0, 30, 1, True)
    write_table(campaign.single_point_table, [point], SinglePoint)
    write_table(campaign.targets, [Target(SYSTEMS[0], "random-000", -15.0, 900, 60)], Target)
    assert score_campaign(campaign, turned) == found
    slab = tagged_slab()
    write_placements(campaign, SYSTEMS[0], slab, CO, {"random-000": adsorbed(slab, CO)})
    with pytest.raises(ValueError, match="6_1134_23.extxyz: no slab_energy and adsorbate_energy"):
        score_campaign(campaign, turned)
    with pytest.raises(ValueError, match="energies of relaxed are 'referenced'"):
        EnergyKinds("referenced", "total", "total")


def test_the_ground_truth_may_have_systems_that_the_campaign_has_not(campaign: Campaign) -> None:
    """Published targets of all systems, a campaign on some of them: only its own need references."""
    write_table(campaign.ranking, [RankedConfiguration(SYSTEMS[0], 1, "random-000", -15.0)], RankedConfiguration)
    point = SinglePoint(SYSTEMS[0], "random-000", -15.0, 30, 1, True)
    write_table(campaign.single_point_table, [point], SinglePoint)
    targets = [Target(system, "random-000", -3.0, 900, 60) for system in (SYSTEMS[0], "0_0_0")]
    write_table(campaign.targets, targets, Target)
    kinds = EnergyKinds(relaxed="total", single_points="total", targets="adsorption")
    found = score_campaign(campaign, kinds)
    assert (found.systems, found.without_valid, found.top_k[0].successes) == (2, 1, 1)
    write_table(campaign.targets, targets[1:], Target)
    with pytest.raises(ValueError, match="no ranked system is in the ground truth; ranked is '6_1134_23'"):
        score_campaign(campaign, kinds)


def test_reference_energies_must_be_numbers(campaign: Campaign) -> None:
    path = campaign.systems / f"{SYSTEMS[0]}.extxyz"
    assert read_reference_energy(path) == -12.0
    path.write_text(path.read_text().replace("slab_energy=-10.0", "slab_energy=unknown"))
    with pytest.raises(ValueError, match="slab_energy is 'unknown'"):
        read_reference_energy(path)


def test_the_figure_may_show_published_models_and_campaigns_without_steps(tmp_path: Path) -> None:
    scores = score([], [], [Target("s", "c", 0.0, 1, 1)])
    save_success_figure(tmp_path / "success.png", scores, published=MODELS)
    save_success_figure(tmp_path / "success.png", scores)
    assert (tmp_path / "success.png").read_bytes().startswith(b"\x89PNG")
