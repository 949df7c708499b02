"""The stages after the relaxations, file to file: check, rank, and, when the single points are there, score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ev2_plugin.adsorbml.campaign import Campaign
from ev2_plugin.adsorbml.records import RankedConfiguration, RelaxedConfiguration
from ev2_plugin.adsorbml.success_rate import LARGEST_K, Scores


@dataclass(frozen=True)
class EnergyKinds:
    """What the energies of a campaign's tables are, each `total` or `adsorption`.

    Attributes:
        relaxed: In `relaxed.csv`, `ranking.csv` and `top_k.csv`: the potential's.
        single_points: In `single_points.csv`.
        targets: In `targets.csv`.
    """

    relaxed: str
    single_points: str
    targets: str


def check_relaxations(
    campaign: Campaign,
    *,
    intercalation: bool = False,
    workers: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[RelaxedConfiguration]:
    """Look for anomalies in all relaxed structures, and write `relaxed.csv`.

    Args:
        campaign: With systems, placements and complete relaxations.
        intercalation: Whether an intercalated adsorbate makes a configuration invalid.
        workers: Processes.
        on_progress: Called with structures done and structures in all.

    Returns:
        The rows of the table, systems by name, configurations in the order of the placements.

    Raises:
        ValueError: If an initial structure was not relaxed, a relaxation has no initial structure or comes twice, or
            initial structures and clean slab do not belong together.
    """
    raise NotImplementedError


def rank_relaxed(campaign: Campaign, k: int = LARGEST_K) -> list[RankedConfiguration]:
    """Rank what `relaxed.csv` holds, and write `ranking.csv` and `top_k.csv`.

    Returns:
        The rows of `top_k.csv`.

    Raises:
        ValueError: If the table cannot be read, or k is below 1.
    """
    raise NotImplementedError


def score_campaign(campaign: Campaign, kinds: EnergyKinds, largest_k: int = LARGEST_K) -> Scores:
    """Score the single points against `targets.csv`; write `scores.json`, `scores.md` and `success.png`.

    Total energies become adsorption energies by the references in the systems' files, unless all are total energies.

    Raises:
        ValueError: If a table cannot be read, a kind of energy is unknown, or a reference is missing.
    """
    raise NotImplementedError
