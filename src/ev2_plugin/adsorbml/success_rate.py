"""How often the best of k single points finds the adsorption energy, and how many DFT steps that saves.

Success at k of a system, with single points `E_i` on its first k configurations and energies `T_j` of its ground
truth: `min_i E_i - min_j T_j <= 0.1 eV`. Energies below the ground truth are successes, and those below it by more
than 0.1 eV ("much better") are counted apart too. A configuration without a converged single point has the energy
1e10 eV and costs nothing, and so does a system without a valid configuration. Speed-up at k: electronic steps of all
relaxations of the ground truth over those of the first k single points, each summed over systems. Clean surfaces and
the time of the machine-learned relaxations do not count.

Source: AdsorbML (arXiv:2211.16486) and its published evaluation.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from operator import attrgetter
from typing import NamedTuple

from ev2_plugin.adsorbml.records import RankedConfiguration, SinglePoint, Target

THRESHOLD = 0.1
"""eV."""
NO_ENERGY = 1e10
"""eV, of what was not computed."""
LARGEST_K = 5


@dataclass(frozen=True)
class Score:
    """Success and cost with the first k configurations of each system.

    Attributes:
        k: Single points per system, at most.
        systems: Of the ground truth.
        successes: Systems whose energy is found, or a lower one.
        much_better: Those of them that are below the ground truth by more than the threshold.
        single_points: Single points that converged, of all systems.
        missing: Configurations among the first k without a converged single point.
        scf_speedup: By electronic steps; None if the single points took none.
        ionic_speedup: By ionic steps; None likewise.
    """

    k: int
    systems: int
    successes: int
    much_better: int
    single_points: int
    missing: int
    scf_speedup: float | None
    ionic_speedup: float | None

    @property
    def success_rate(self) -> float:
        """Share of the systems."""
        return self.successes / self.systems


@dataclass(frozen=True)
class PotentialOnly:
    """Success of the potential's own lowest energies, without counting on single points.

    An energy counts only if the single point there is within the threshold of it, on either side.

    Attributes:
        systems: Of the ground truth.
        confirmed: Systems whose lowest energy its single point confirms.
        successes: Of those, systems whose energy is found, or a lower one.
        much_better: Of those, systems below the ground truth by more than the threshold.
    """

    systems: int
    confirmed: int
    successes: int
    much_better: int

    @property
    def success_rate(self) -> float:
        """Share of the systems."""
        return self.successes / self.systems


@dataclass(frozen=True)
class Scores:
    """What a campaign is worth.

    Attributes:
        systems: Systems of the ground truth, that is those with an energy there.
        without_valid: Of those, systems without a valid configuration.
        target_scf_steps: Electronic steps of the ground truth.
        target_ionic_steps: Ionic steps of the ground truth.
        top_k: One for each k, ascending.
        potential_only: Without single points' energies.
    """

    systems: int
    without_valid: int
    target_scf_steps: int
    target_ionic_steps: int
    top_k: tuple[Score, ...]
    potential_only: PotentialOnly


def score(
    ranking: Sequence[RankedConfiguration],
    single_points: Sequence[SinglePoint],
    targets: Sequence[Target],
    largest_k: int = LARGEST_K,
) -> Scores:
    """Compare a campaign with the ground truth; all energies must be of one kind, total or adsorption energies.

    Args:
        ranking: Valid configurations of each system; their ranks say which are the first k. Systems that the ground
            truth does not have are left out.
        single_points: On relaxed structures; those of other configurations are ignored.
        targets: The ground truth.
        largest_k: Scores are made for 1 to this.

    Raises:
        ValueError: If the ground truth has no energy, no system of the ranking is in it, or `largest_k` is below 1.
    """
    if largest_k < 1:
        raise ValueError(f"the largest k is {largest_k}; it should be 1 or more")
    best_targets = _lowest(targets)
    if not best_targets:
        raise ValueError("the ground truth has no energies: there is nothing to compare with")
    ranked: dict[str, list[RankedConfiguration]] = {system: [] for system in best_targets}
    for one in sorted(ranking, key=attrgetter("rank")):
        if one.system in ranked:
            ranked[one.system].append(one)
    require_common_system(ranking, best_targets)
    computed = {
        (one.system, one.config): _Computed(float(one.energy), one.scf_steps, one.ionic_steps)
        for one in single_points
        if one.converged and one.energy is not None
    }
    spent = _Computed(0.0, sum(one.scf_steps for one in targets), sum(one.ionic_steps for one in targets))
    return Scores(
        systems=len(best_targets),
        without_valid=sum(not ranked[system] for system in best_targets),
        target_scf_steps=spent.scf_steps,
        target_ionic_steps=spent.ionic_steps,
        top_k=tuple(
            _score(k, {system: ranked[system][:k] for system in best_targets}, computed, best_targets, spent)
            for k in range(1, largest_k + 1)
        ),
        potential_only=_potential_only(ranked, computed, best_targets),
    )


def require_common_system(ranking: Sequence[RankedConfiguration], systems: Collection[str]) -> None:
    """See that systems of a ranking are in the ground truth.

    Raises:
        ValueError: If something is ranked, but no system of the ground truth.
    """
    if ranking and systems and not any(one.system in systems for one in ranking):
        raise ValueError(
            f"no ranked system is in the ground truth; ranked is {ranking[0].system!r}, "
            f"the ground truth has {min(systems)!r}"
        )


class _Computed(NamedTuple):
    """A converged single point: energy [eV] and steps."""

    energy: float
    scf_steps: int
    ionic_steps: int


def _score(
    k: int,
    chosen: Mapping[str, Sequence[RankedConfiguration]],
    computed: Mapping[tuple[str, str], _Computed],
    best_targets: Mapping[str, float],
    spent: _Computed,
) -> Score:
    points = {
        system: [computed[one.system, one.config] for one in configurations if (one.system, one.config) in computed]
        for system, configurations in chosen.items()
    }
    differences = [
        min((point.energy for point in points[system]), default=NO_ENERGY) - target
        for system, target in best_targets.items()
    ]
    found = [point for of_system in points.values() for point in of_system]
    return Score(
        k=k,
        systems=len(best_targets),
        successes=sum(difference <= THRESHOLD for difference in differences),
        much_better=sum(difference < -THRESHOLD for difference in differences),
        single_points=len(found),
        missing=sum(map(len, chosen.values())) - len(found),
        scf_speedup=_ratio(spent.scf_steps, sum(point.scf_steps for point in found)),
        ionic_speedup=_ratio(spent.ionic_steps, sum(point.ionic_steps for point in found)),
    )


def _potential_only(
    ranked: Mapping[str, Sequence[RankedConfiguration]],
    computed: Mapping[tuple[str, str], _Computed],
    best_targets: Mapping[str, float],
) -> PotentialOnly:
    differences = []
    for system, target in best_targets.items():
        for best in ranked[system][:1]:
            point = computed.get((system, best.config))
            if point is not None and abs(point.energy - best.energy) <= THRESHOLD:
                differences.append(float(best.energy) - target)
    return PotentialOnly(
        systems=len(best_targets),
        confirmed=len(differences),
        successes=sum(difference <= THRESHOLD for difference in differences),
        much_better=sum(difference < -THRESHOLD for difference in differences),
    )


def _lowest(targets: Sequence[Target]) -> dict[str, float]:
    """Lowest energy of each system that has one, in the order of the table [eV]."""
    lowest: dict[str, float] = {}
    for one in targets:
        if one.energy is not None:
            lowest[one.system] = min(float(one.energy), lowest.get(one.system, inf))
    return lowest


def _ratio(steps: int, fewer: int) -> float | None:
    return steps / fewer if fewer else None
