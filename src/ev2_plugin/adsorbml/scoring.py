"""The last stages: which energies are which, and the score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ev2_plugin.adsorbml.campaign import Campaign
from ev2_plugin.adsorbml.oc20_dense import read_oc20_dense
from ev2_plugin.adsorbml.post_processing import EnergyKinds, check_relaxations, rank_relaxed, score_campaign
from ev2_plugin.adsorbml.published import PublishedModel
from ev2_plugin.adsorbml.records import RankedConfiguration, RelaxedConfiguration, Target
from ev2_plugin.adsorbml.settings_file import read_settings, settle
from ev2_plugin.adsorbml.shards import energy_kind
from ev2_plugin.adsorbml.success_rate import LARGEST_K, Scores
from ev2_plugin.adsorbml.tables import write_table

FILTER, TARGETS = "filter", "targets"
_OC20_DENSE = "oc20_dense"


def filter_relaxed(
    campaign: Campaign, intercalation: bool, workers: int, on_progress: Callable[[int, int], None] | None = None
) -> tuple[list[RelaxedConfiguration], list[RankedConfiguration]]:
    """Check and rank the relaxed structures: `relaxed.csv`, `ranking.csv`, and `top_k.csv` with the usual five.

    Returns:
        What became of every structure, and the selected ones.

    Raises:
        ValueError: If not all is relaxed, or the checks cannot be made.
    """
    kind = energy_kind(campaign)
    asked = {"energies": kind, "intercalation": intercalation}
    settle(campaign.folder, FILTER, asked, asked, movable=asked)
    found = check_relaxations(campaign, intercalation=intercalation, workers=workers, on_progress=on_progress)
    return found, rank_relaxed(campaign, LARGEST_K)


def import_oc20_dense(campaign: Campaign, targets: Path, compute: Path) -> list[Target]:
    """Take the published ground truth of OC20-Dense, adsorption energies, for `targets.csv`.

    Raises:
        ValueError: If the files have another layout, or this campaign computes its ground truth.
    """
    found = read_oc20_dense(targets, compute)
    asked = {_OC20_DENSE: [targets.name, compute.name]}
    if read_settings(campaign.folder).get(TARGETS, asked).keys() != asked.keys():
        raise ValueError(f"{campaign.folder}: 'targets' was begun with a calculator; use another campaign folder")
    settle(campaign.folder, TARGETS, asked, asked)
    write_table(campaign.targets, found, Target)
    return found


def score(
    campaign: Campaign,
    single_points: str | None = None,
    targets: str | None = None,
    largest_k: int = LARGEST_K,
    published: Sequence[PublishedModel] = (),
) -> tuple[Scores, EnergyKinds]:
    """Score a campaign.

    Args:
        campaign: With its tables.
        single_points: `total` or `adsorption`; None for total, which VASP and calculators give.
        targets: The same for the ground truth; None for adsorption with OC20-Dense, total otherwise.
        largest_k: Scores are made for 1 to this.
        published: Models to draw beside the campaign's.

    Raises:
        ValueError: If a table is missing or cannot be read, or references to convert energies are missing.
    """
    for table in (campaign.ranking, campaign.single_point_table, campaign.targets):
        if not table.exists():
            raise ValueError(f"{table}: no such table; 'ev2 adsorbml status' shows what is to be done")
    settings = read_settings(campaign.folder)
    if FILTER not in settings:
        raise ValueError(
            f"{campaign.folder}: nothing says what the energies of {campaign.ranking.name} are; filter first"
        )
    usual = "adsorption" if _OC20_DENSE in settings.get(TARGETS, {}) else "total"
    kinds = EnergyKinds(settings[FILTER]["energies"], single_points or "total", targets or usual)
    return score_campaign(campaign, kinds, largest_k, published), kinds
