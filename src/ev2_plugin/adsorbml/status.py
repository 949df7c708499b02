"""How far a campaign is, from its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ev2_plugin.adsorbml.campaign import Campaign
from ev2_plugin.adsorbml.settings_file import read_settings
from ev2_plugin.adsorbml.shards import GroundTruth, count_shards, stage_of
from ev2_plugin.adsorbml.single_points import RESULT
from ev2_plugin.adsorbml.structure_files import list_placements
from ev2_plugin.adsorbml.vasp import read_vasp_result


@dataclass(frozen=True)
class StageStatus:
    """A line of the table.

    Attributes:
        stage: The sub-command.
        done: What there is.
        total: What there should be; None if nothing says so.
        unit: What is counted.
        note: What else is to know.
    """

    stage: str
    done: int
    total: int | None
    unit: str
    note: str = ""


def campaign_status(campaign: Campaign) -> list[StageStatus]:
    """Count what each stage has done.

    Raises:
        ValueError: If the folder is no campaign.
    """
    systems = sorted(campaign.placements.glob("*.extxyz"))
    if not systems:
        raise ValueError(f"{campaign.folder}: no campaign; 'ev2 adsorbml place' or 'import' begins one")
    placements = list_placements(campaign)
    lines = [StageStatus("place", len(placements), None, "structures", f"{len(systems)} systems")]
    lines.append(_relaxations(campaign))
    for stage, path in (("filter", campaign.relaxed), ("select", campaign.top_k)):
        lines.append(StageStatus(stage, _rows(path), None, "rows", path.name))
    folders = [path for path in sorted(campaign.single_points.glob("*")) if path.is_dir()]
    ended = sum((path / RESULT).exists() or read_vasp_result(path) is not None for path in folders)
    lines.append(StageStatus("single-points", ended, _rows(campaign.top_k), "structures"))
    lines.append(StageStatus("collect", _rows(campaign.single_point_table), None, "rows", "single_points.csv"))
    if stage_of(GroundTruth(campaign.folder)) in read_settings(campaign.folder):
        lines.append(_relaxations(GroundTruth(campaign.folder)))
    lines.append(StageStatus("targets", _rows(campaign.targets), None, "rows", campaign.targets.name))
    lines.append(StageStatus("score", int(campaign.scores.exists()), None, "files", campaign.scores.name))
    return lines


def _relaxations(campaign: Campaign) -> StageStatus:
    counts = count_shards(campaign)
    open_shards = [str(one.shard) for one in counts if not one.complete]
    note = f"{len(counts)} shards" + (f", to do: {', '.join(open_shards)}" if open_shards else "")
    done, total = sum(one.done for one in counts), sum(one.total for one in counts)
    return StageStatus(stage_of(campaign), done, total or None, "structures", note if counts else "not begun")


def _rows(path: Path) -> int:
    if not path.exists():
        return 0
    with path.open("rb") as file:
        return max(0, sum(1 for _ in file) - 1)
