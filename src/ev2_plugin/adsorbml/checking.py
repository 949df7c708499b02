"""Anomaly checks of a whole campaign, one system after the other, on several processes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import groupby
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from operator import attrgetter
from pathlib import Path

import numpy as np

from ev2_plugin.adsorbml.anomalies import find_anomalies
from ev2_plugin.adsorbml.campaign import Campaign
from ev2_plugin.adsorbml.records import RelaxedConfiguration
from ev2_plugin.adsorbml.structure_files import Placement, list_placements
from ev2_plugin.adsorbml.surface_system import read_clean_slab, read_placements
from ev2_plugin.relax.folder import read_relaxed
from ev2_plugin.relax.group import Relaxed

_NAMED = 5
"""Structures that an error names; it counts the others."""


@dataclass(frozen=True)
class _Job:
    """One system: its clean slab, its initial structures, and in the same order what relaxation made of them."""

    slab: Path
    placements: Sequence[Placement]
    relaxed: Sequence[Relaxed]
    intercalation: bool


def check_campaign(
    campaign: Campaign, *, intercalation: bool, workers: int, on_progress: Callable[[int, int], None] | None
) -> list[RelaxedConfiguration]:
    """See `post_processing.check_relaxations`, which writes the table as well."""
    placements = list_placements(campaign)
    relaxed = _by_id(campaign)
    _require_complete(placements, relaxed)
    jobs = [
        _Job(campaign.systems / f"{system}.extxyz", listed, [relaxed.pop(one.name) for one in listed], intercalation)
        for system, listed in _by_system(placements)
    ]
    found: dict[str, list[RelaxedConfiguration]] = {}
    done = 0
    for configurations in _run(jobs, workers):
        found[configurations[0].system] = configurations
        done += len(configurations)
        if on_progress is not None:
            on_progress(done, len(placements))
    return [one for system in sorted(found) for one in found[system]]


def _check_system(job: _Job) -> list[RelaxedConfiguration]:
    slab = read_clean_slab(job.slab)
    placements = read_placements(job.placements, slab)
    for one in job.relaxed:
        if len(one.positions) != len(placements.numbers):
            raise ValueError(
                f"{one.id} was relaxed with {len(one.positions)} atoms, its initial structure has "
                f"{len(placements.numbers)}: the two do not belong together"
            )
    anomalies = find_anomalies(placements, np.stack([one.positions for one in job.relaxed]), slab)
    valid = anomalies.valid(intercalation=job.intercalation)
    return [
        RelaxedConfiguration(
            system=placements.system,
            config=config,
            energy=one.energy,
            fmax=one.fmax,
            steps=one.steps,
            converged=one.converged,
            dissociated=bool(anomalies.dissociated[index]),
            desorbed=bool(anomalies.desorbed[index]),
            surface_changed=bool(anomalies.surface_changed[index]),
            intercalated=bool(anomalies.intercalated[index]),
            valid=bool(valid[index]),
        )
        for index, (config, one) in enumerate(zip(placements.configs, job.relaxed, strict=True))
    ]


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


def _by_system(placements: Sequence[Placement]) -> Iterator[tuple[str, list[Placement]]]:
    for system, listed in groupby(sorted(placements, key=attrgetter("system", "start")), key=attrgetter("system")):
        yield system, list(listed)


def _run(jobs: Sequence[_Job], workers: int) -> Iterator[list[RelaxedConfiguration]]:
    if workers == 1 or len(jobs) < 2:
        yield from map(_check_system, jobs)
        return
    pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn"), initializer=_end_with_parent)
    try:
        for future in as_completed([pool.submit(_check_system, job) for job in jobs]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """End this process when its parent is killed; it would wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
