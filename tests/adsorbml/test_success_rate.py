"""Scores against a calculation written out here, on random tables with everything that can be missing."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from ev2_plugin.adsorbml.published import MODELS, SYSTEMS
from ev2_plugin.adsorbml.ranking import rank, top_k
from ev2_plugin.adsorbml.records import RankedConfiguration, RelaxedConfiguration, SinglePoint, Target
from ev2_plugin.adsorbml.success_rate import score


@dataclass
class Tables:
    """A campaign's tables."""

    relaxed: list[RelaxedConfiguration] = field(default_factory=list)
    points: list[SinglePoint] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)


def relaxed(system: str, config: str, energy: float, *, valid: bool = True) -> RelaxedConfiguration:
    return RelaxedConfiguration(system, config, energy, 0.01, 9, True, not valid, False, False, False, valid)


def random_tables(seed: int) -> Tables:
    """Energies on a grid of 0.05 eV, so that there are ties and differences at the threshold."""
    rng = np.random.default_rng(seed)
    tables = Tables()
    for number in range(12):
        system = f"s{number}"
        base = rng.normal()
        for index in range(int(rng.integers(1, 9))):
            config, energy = f"random-{index:03d}", base + 0.05 * rng.integers(-4, 8)
            in_relaxations = number != 3  # a system without any relaxation
            valid = number != 4 and rng.random() < 0.8  # a system without a valid one
            if in_relaxations:
                tables.relaxed.append(relaxed(system, config, energy, valid=valid))
            if in_relaxations and rng.random() < 0.8:
                point = None if rng.random() < 0.1 else energy + 0.05 * rng.integers(-3, 4)
                steps = int(rng.integers(10, 60))
                tables.points.append(SinglePoint(system, config, point, steps, 1, bool(rng.random() < 0.85)))
            if number != 5 and rng.random() < 0.9 or index == 0:  # system 5 has one target only
                target = None if number == 6 or rng.random() < 0.1 else base + 0.05 * rng.integers(-4, 8)
                steps = int(rng.integers(1000, 9000))
                tables.targets.append(Target(system, config, target, steps, steps // 20))
    tables.relaxed.append(relaxed("elsewhere", "random-000", -3.0))
    rng.shuffle(tables.relaxed)  # type: ignore[arg-type]
    return tables


def brute_force(tables: Tables, k: int) -> dict[str, float]:
    """Rates and speed-ups in the words of the definitions."""
    truth: dict[str, list[float]] = {}
    for target in tables.targets:
        if target.energy is not None:
            truth.setdefault(target.system, []).append(target.energy)
    successes = much_better = scf = ionic = alone = 0
    for system in truth:
        own = [(one.energy, one.config) for one in tables.relaxed if one.system == system and one.valid]
        best = []
        for _, config in sorted(own)[:k]:
            energy = 1e10
            for point in tables.points:
                if (point.system, point.config) == (system, config) and point.converged and point.energy is not None:
                    energy = point.energy
                    scf += point.scf_steps
                    ionic += point.ionic_steps
            best.append(energy)
        difference = min([*best, 1e10]) - min(truth[system])
        successes += difference <= 0.1
        much_better += difference < -0.1
        if own:
            lowest, config = sorted(own)[0]
            confirmed = [
                point
                for point in tables.points
                if (point.system, point.config) == (system, config)
                and point.converged
                and point.energy is not None
                and abs(point.energy - lowest) <= 0.1
            ]
            alone += bool(confirmed) and lowest - min(truth[system]) <= 0.1
    return {
        "success": successes / len(truth),
        "much_better": much_better,
        "scf": sum(target.scf_steps for target in tables.targets) / scf if scf else math.inf,
        "ionic": sum(target.ionic_steps for target in tables.targets) / ionic if ionic else math.inf,
        "alone": alone / len(truth),
    }


@pytest.mark.parametrize("seed", range(40))
def test_scores_are_those_of_the_definitions(seed: int) -> None:
    tables = random_tables(seed)
    ranking = rank(tables.relaxed)
    np.random.default_rng(seed).shuffle(ranking)  # the ranks count, not the order of the table
    found = score(ranking, tables.points, tables.targets)
    assert [one.k for one in found.top_k] == [1, 2, 3, 4, 5]
    for one in found.top_k:
        expected = brute_force(tables, one.k)
        assert one.success_rate == expected["success"]
        assert one.much_better == expected["much_better"]
        assert (one.scf_speedup or math.inf) == pytest.approx(expected["scf"])
        assert (one.ionic_speedup or math.inf) == pytest.approx(expected["ionic"])
        assert found.potential_only.success_rate == expected["alone"]


def test_random_tables_are_worth_their_name() -> None:
    found = [score(rank(tables.relaxed), tables.points, tables.targets) for tables in map(random_tables, range(40))]
    assert any(one.top_k[0].missing for one in found)
    assert any(one.without_valid > 1 for one in found)
    assert any(one.top_k[0].much_better for one in found)
    assert any(0 < one.potential_only.successes < one.potential_only.confirmed for one in found)
    assert len({one.top_k[0].successes for one in found}) > 3


def ranked(*energies: float) -> list[RankedConfiguration]:
    return rank([relaxed("s", f"c{index}", energy) for index, energy in enumerate(energies)])


@pytest.mark.parametrize(
    ("single_point", "success", "much_better"), [(-0.875, 1, 0), (-0.85, 0, 0), (-1.05, 1, 0), (-1.125, 1, 1)]
)
def test_success_is_one_sided(single_point: float, success: int, much_better: int) -> None:
    target = [Target("s", "c9", -0.975, 100, 10), Target("s", "c8", 2.0, 100, 10)]
    found = score(ranked(-5.0), [SinglePoint("s", "c0", single_point, 10, 1, True)], target, largest_k=1).top_k[0]
    assert (found.successes, found.much_better) == (success, much_better)


def test_speedup_counts_the_whole_ground_truth_and_only_the_chosen() -> None:
    points = [SinglePoint("s", f"c{index}", 0.0, 10 * (index + 1), 1, True) for index in range(4)]
    targets = [Target("s", "c0", 0.0, 1000, 100), Target("s", "c1", None, 500, 50)]
    found = score(ranked(0.0, 1.0, 2.0), points, targets, largest_k=2)
    assert [one.scf_speedup for one in found.top_k] == [1500 / 10, 1500 / 30]
    assert [one.ionic_speedup for one in found.top_k] == [150 / 1, 150 / 2]


def test_what_was_not_computed_fails_and_costs_nothing() -> None:
    targets = [Target("s", "c0", 1e9, 1000, 100)]
    unfinished = SinglePoint("s", "c0", -9.0, 300, 1, False)
    for points in ([], [unfinished], [SinglePoint("s", "c0", None, 300, 1, True)]):
        found = score(ranked(0.0), points, targets, largest_k=1).top_k[0]
        assert (found.successes, found.missing, found.scf_speedup) == (0, 1, None)
    nothing = score([], [], targets, largest_k=1)
    assert (nothing.without_valid, nothing.top_k[0].successes, nothing.top_k[0].scf_speedup) == (1, 0, None)


def test_an_energy_of_zero_is_an_energy() -> None:
    found = score(ranked(0.0), [SinglePoint("s", "c0", 0.0, 9, 1, True)], [Target("s", "c0", 0.0, 90, 9)])
    assert found.top_k[0].successes == 1


def test_tables_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ValueError, match="no energies"):
        score(ranked(0.0), [], [Target("s", "c0", None, 1, 1)])
    with pytest.raises(ValueError, match="ranked is 's', the ground truth has 't'"):
        score(ranked(0.0), [], [Target("t", "c0", 0.0, 1, 1)])
    with pytest.raises(ValueError, match="the largest k is 0"):
        score(ranked(0.0), [], [Target("s", "c0", 0.0, 1, 1)], largest_k=0)


def test_ranking_drops_anomalies_and_breaks_ties_by_name() -> None:
    rows = [
        relaxed("b", "c2", -1.0),
        relaxed("b", "c1", -1.0),
        relaxed("b", "c0", -9.0, valid=False),
        relaxed("a", "c3", 5.0),
        relaxed("b", "c4", -2.0),
        relaxed("none", "c0", -2.0, valid=False),
    ]
    expected = [("a", 1, "c3"), ("b", 1, "c4"), ("b", 2, "c1"), ("b", 3, "c2")]
    for order in (rows, rows[::-1]):
        ranking = rank(order)
        assert [(one.system, one.rank, one.config) for one in ranking] == expected
        assert [(one.system, one.rank) for one in top_k(ranking, 2)] == [("a", 1), ("b", 1), ("b", 2)]
    with pytest.raises(ValueError, match="k is 0"):
        top_k(ranking, 0)


def test_published_rates_are_whole_numbers_of_systems() -> None:
    for model in MODELS:
        for rate in model.success_rates:
            assert f"{100 * round(rate / 100 * SYSTEMS) / SYSTEMS:.2f}" == f"{rate:.2f}"
        assert list(model.success_rates) == sorted(model.success_rates)
        assert list(model.speedups) == sorted(model.speedups, reverse=True)


def test_the_documented_table_is_the_published_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "adsorbml_definitions.md").read_text(encoding="utf-8")
    for model in MODELS:
        cost = "–" if model.gpu_seconds is None else f"{model.gpu_seconds:g}"
        pairs = zip(model.success_rates, model.speedups, strict=True)
        cells = [f"{rate:.2f}%, {speedup:.2f}" for rate, speedup in pairs]
        assert f"| {' | '.join([model.name, cost, *cells])} |" in page
