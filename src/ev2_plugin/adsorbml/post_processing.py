"""The stages after the relaxations, file to file: check, rank, and, when the single points are there, score."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ev2_plugin.adsorbml.adsorption_energy import adsorption_energies
from ev2_plugin.adsorbml.campaign import Campaign
from ev2_plugin.adsorbml.checking import check_campaign
from ev2_plugin.adsorbml.figure import save_success_figure
from ev2_plugin.adsorbml.published import PublishedModel
from ev2_plugin.adsorbml.ranking import rank, top_k
from ev2_plugin.adsorbml.records import RankedConfiguration, RelaxedConfiguration, SinglePoint, Target
from ev2_plugin.adsorbml.score_table import write_scores
from ev2_plugin.adsorbml.success_rate import LARGEST_K, Scores, require_common_system, score
from ev2_plugin.adsorbml.surface_system import read_reference_energy
from ev2_plugin.adsorbml.tables import read_table, write_table


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

    def __post_init__(self) -> None:
        for table, kind in vars(self).items():
            if kind not in ("total", "adsorption"):
                raise ValueError(f"energies of {table} are {kind!r}; they should be 'total' or 'adsorption'")


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
    relaxed = check_campaign(campaign, intercalation=intercalation, workers=workers, on_progress=on_progress)
    write_table(campaign.relaxed, relaxed, RelaxedConfiguration)
    return relaxed


def rank_relaxed(campaign: Campaign, k: int = LARGEST_K) -> list[RankedConfiguration]:
    """Rank what `relaxed.csv` holds, and write `ranking.csv` and `top_k.csv`.

    Returns:
        The rows of `top_k.csv`.

    Raises:
        ValueError: If the table cannot be read, or k is below 1.
    """
    ranking = rank(read_table(campaign.relaxed, RelaxedConfiguration))
    best = top_k(ranking, k)
    write_table(campaign.ranking, ranking, RankedConfiguration)
    write_table(campaign.top_k, best, RankedConfiguration)
    return best


def score_campaign(
    campaign: Campaign, kinds: EnergyKinds, largest_k: int = LARGEST_K, published: Sequence[PublishedModel] = ()
) -> Scores:
    """Score the single points against `targets.csv`; write `scores.json`, `scores.md` and `success.png`.

    Total energies become adsorption energies by the references in the systems' files, unless all are total energies.

    Args:
        campaign: With a ranking, single points and targets.
        kinds: What its energies are.
        largest_k: Scores are made for 1 to this.
        published: Models to draw beside the campaign's.

    Raises:
        ValueError: If a table cannot be read, a kind of energy is unknown, or a reference is missing.
    """
    ranking = read_table(campaign.ranking, RankedConfiguration)
    single_points = read_table(campaign.single_point_table, SinglePoint)
    targets = read_table(campaign.targets, Target)
    known = {one.system for one in targets}
    require_common_system(ranking, known)
    if len(set(vars(kinds).values())) > 1:
        tables = ((kinds.relaxed, ranking), (kinds.single_points, single_points), (kinds.targets, targets))
        total = {one.system for kind, records in tables if kind == "total" for one in records}
        references = _references(campaign, total & known)
        if kinds.relaxed == "total":
            ranking = adsorption_energies(ranking, references)
        if kinds.single_points == "total":
            single_points = adsorption_energies(single_points, references)
        if kinds.targets == "total":
            targets = adsorption_energies(targets, references)
    scores = score(ranking, single_points, targets, largest_k)
    write_scores(campaign.scores, campaign.score_table, scores)
    save_success_figure(campaign.figure, scores, published=published)
    return scores


def _references(campaign: Campaign, systems: Iterable[str]) -> dict[str, float]:
    """Reference energy of each system [eV].

    Raises:
        ValueError: If the file of one does not state it.
    """
    energies = {system: read_reference_energy(campaign.systems / f"{system}.extxyz") for system in systems}
    missing = sorted(system for system, energy in energies.items() if energy is None)
    if missing:
        raise ValueError(
            f"{campaign.systems / missing[0]}.extxyz: no slab_energy and adsorbate_energy in the info of its first "
            f"frame, which make adsorption energies of total ones; {len(missing)} of {len(energies)} systems lack them"
        )
    return {system: energy for system, energy in energies.items() if energy is not None}
