"""Anomaly checks of a whole campaign, one system after the other, on several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from operator import attrgetter

from ev2_plugin.adsorbml.campaign import Campaign
from ev2_plugin.adsorbml.records import RelaxedConfiguration
from ev2_plugin.adsorbml.structure_files import Placement, list_placements
from ev2_plugin.adsorbml.system_check import RelaxationEnd, SystemRelaxations, check_system
from ev2_plugin.relax.folder import read_relaxed
from ev2_plugin.relax.group import Relaxed
from ev2_plugin.workers import run_jobs

_NAMED = 5
"""Structures that an error names; it counts the others."""


def check_campaign(
    campaign: Campaign, *, intercalation: bool, workers: int, on_progress: Callable[[int, int], None] | None
) -> list[RelaxedConfiguration]:
    """See `post_processing.check_relaxations`, which writes the table as well."""
    placements = list_placements(campaign)
    relaxed = _by_id(campaign)
    _require_complete(placements, relaxed)
    jobs = [
        _job(campaign, listed, [relaxed.pop(one.name) for one in listed], intercalation)
        for listed in _by_system(placements)
    ]
    found: dict[str, list[RelaxedConfiguration]] = {}
    done = 0
    for configurations in run_jobs([partial(check_system, job) for job in jobs], workers):
        found[configurations[0].system] = configurations
        done += len(configurations)
        if on_progress is not None:
            on_progress(done, len(placements))
    return [one for system in sorted(found) for one in found[system]]


def _by_id(campaign: Campaign) -> dict[str, Relaxed]:
    """All results of all shards.

    Raises:
        ValueError: If there are none, or two of one structure.
    """
    found: dict[str, Relaxed] = {}
    shards = sorted(path for path in campaign.relaxations.glob("shard-*") if path.is_dir())
    for shard in shards:
        for one in read_relaxed(shard):
            if one.id in found:
                raise ValueError(f"{shard}: {one.id} was relaxed in an earlier shard too")
            found[one.id] = one
    if not found:
        raise ValueError(f"{campaign.relaxations}: no relaxed structures in folders shard-000 and so on")
    return found


def _require_complete(placements: Sequence[Placement], relaxed: dict[str, Relaxed]) -> None:
    known = {one.name for one in placements}
    missing = [name for name in known if name not in relaxed]
    if missing:
        raise ValueError(f"not relaxed yet: {_listed(missing)} of {len(known)} initial structures")
    unknown = [name for name in relaxed if name not in known]
    if unknown:
        raise ValueError(f"relaxed, but without an initial structure: {_listed(unknown)}")


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:_NAMED]) + (f" and {len(ordered) - _NAMED} more" if len(ordered) > _NAMED else "")


def _by_system(placements: Sequence[Placement]) -> Iterator[list[Placement]]:
    ordered = sorted(placements, key=attrgetter("system", "start"))
    for _, listed in groupby(ordered, key=attrgetter("system")):
        yield list(listed)


def _job(
    campaign: Campaign, listed: Sequence[Placement], relaxed: Sequence[Relaxed], intercalation: bool
) -> SystemRelaxations:
    return SystemRelaxations(
        system=listed[0].system,
        slab_file=campaign.systems / f"{listed[0].system}.extxyz",
        placements_file=listed[0].path,
        configs=tuple(one.config for one in listed),
        ends=tuple(RelaxationEnd(one.energy, one.fmax, one.steps, one.converged, one.positions) for one in relaxed),
        intercalation=intercalation,
    )
