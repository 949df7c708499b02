"""A campaign's initial structures in shards, each relaxed in a folder of its own, by whom and where ever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ev2_plugin.adsorbml.campaign import Campaign
from ev2_plugin.adsorbml.settings_file import read_settings, write_json
from ev2_plugin.adsorbml.structure_files import Placement, list_placements
from ev2_plugin.relax.results import LINES
from ev2_plugin.storage.plain_files import read_json

DEFAULTS: dict[str, dict[str, Any]] = {
    "relax": {"optimizer": "lbfgs", "fmax": 0.02, "steps": 300},
    "targets": {"optimizer": "lbfgs", "fmax": 0.03, "steps": 2000},
}
"""Stages that relax all initial structures: models as in EquiformerV2's appendix D.3, DFT as in OC20 (eV/Å)."""

_DONE = "done.json"


@dataclass(frozen=True)
class GroundTruth(Campaign):
    """The same campaign with relaxations by the method that counts."""

    @property
    def relaxations(self) -> Path:
        """Folder of `shard-000` and so on, written by `ev2_plugin.relax`."""
        return self.folder / "ground_truth"


@dataclass(frozen=True)
class ShardCount:
    """How far a shard is.

    Attributes:
        shard: Its number.
        done: Structures relaxed.
        total: Structures it has.
        complete: Whether it ended.
    """

    shard: int
    done: int
    total: int
    complete: bool


def stage_of(campaign: Campaign) -> str:
    """Section of `campaign.json` that says how a campaign's structures are relaxed."""
    return "targets" if isinstance(campaign, GroundTruth) else "relax"


def shard_folder(campaign: Campaign, shard: int) -> Path:
    """Where a shard's results are."""
    return campaign.relaxations / f"shard-{shard:03d}"


def shard_placements(placements: Sequence[Placement], shard: int, shards: int) -> Sequence[Placement]:
    """The structures of a shard: a stretch of the list, so that it reads few files.

    Raises:
        ValueError: If there is no such shard.
    """
    if not 0 <= shard < shards:
        raise ValueError(f"there is no shard {shard}: they are 0 to {shards - 1}")
    bounds = [len(placements) * number // shards for number in (shard, shard + 1)]
    return placements[bounds[0] : bounds[1]]


def count_shards(campaign: Campaign, placements: Sequence[Placement] | None = None) -> list[ShardCount]:
    """Count what is done.

    Args:
        campaign: A `GroundTruth` for the relaxations by the method that counts.
        placements: The initial structures, if they are known already.

    Returns:
        All shards; none before the stage was begun.
    """
    settings = read_settings(campaign.folder).get(stage_of(campaign))
    if settings is None:
        return []
    placements, shards = placements or list_placements(campaign), settings["shards"]
    counts = []
    for shard in range(shards):
        folder = shard_folder(campaign, shard)
        lines = folder / LINES
        done = lines.read_bytes().count(b"\n") if lines.exists() else 0
        total = len(shard_placements(placements, shard, shards))
        counts.append(ShardCount(shard, done, total, (folder / _DONE).exists()))
    return counts


def mark_done(folder: Path, structures: int, energies: str) -> None:
    """Note that a shard ended, and what kind of energies it has."""
    write_json(folder / _DONE, {"structures": structures, "energies": energies})


def require_complete(campaign: Campaign) -> None:
    """See that all shards ended.

    Raises:
        ValueError: Naming those that did not.
    """
    counts = count_shards(campaign)
    missing = [f"{one.shard} ({one.done} of {one.total})" for one in counts if not one.complete]
    if missing or not counts:
        raise ValueError(
            f"{campaign.relaxations}: not all is relaxed; shards to do: {', '.join(missing) or 'all'}; "
            f"'ev2 adsorbml {stage_of(campaign)}' goes on with them"
        )


def energy_kind(campaign: Campaign) -> str:
    """What the energies of relaxed structures are, `total` or `adsorption`.

    Raises:
        ValueError: If not all shards ended, or they disagree.
    """
    require_complete(campaign)
    folders = [shard_folder(campaign, one.shard) for one in count_shards(campaign)]
    kinds = {read_json(folder / _DONE)["energies"] for folder in folders}
    if len(kinds) > 1:
        raise ValueError(f"{campaign.relaxations}: shards have energies of different kinds: {', '.join(sorted(kinds))}")
    return kinds.pop()
