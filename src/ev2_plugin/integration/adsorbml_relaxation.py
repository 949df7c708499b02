"""A campaign's relaxations: one shard here, all in processes of this machine, or as a job array of SLURM."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import torch
from submitit import Job
from submitit.helpers import Checkpointable

from ev2_plugin.adsorbml.campaign import Campaign
from ev2_plugin.adsorbml.settings_file import read_settings, settle
from ev2_plugin.adsorbml.shards import (
    DEFAULTS,
    count_shards,
    mark_done,
    shard_folder,
    shard_placements,
    stage_of,
)
from ev2_plugin.adsorbml.structure_files import Placement, PlacementSource, list_placements
from ev2_plugin.integration.slurm import open_executor, refusals
from ev2_plugin.potential.ase_calculator import CalculatorPotential
from ev2_plugin.potential.calculators import build_calculator
from ev2_plugin.potential.protocol import Potential
from ev2_plugin.relax.fire import FIRE
from ev2_plugin.relax.folder import Progress, relax_in_folder
from ev2_plugin.relax.lbfgs import LBFGS
from ev2_plugin.relax.settings import Budget, Settings
from ev2_plugin.workers import deaf_to_interrupts

OPTIMIZERS = {"lbfgs": LBFGS, "fire": FIRE}
ENERGY_KINDS = ("total", "adsorption")
_POLL = 0.5  # seconds
_ERROR = "error.txt"


@dataclass(frozen=True)
class Machine:
    """What may differ from one machine to another while the results stay the same.

    Attributes:
        device: `auto`, which takes CUDA devices in turn, or a device of torch.
        max_edges: Most edges of a batch; None for no limit.
        max_structures: Most structures of a batch.
        trust: Whether the checkpoint comes from somebody trusted: then what it asks for is executed.
    """

    device: str = "auto"
    max_edges: int | None = None
    max_structures: int = 16
    trust: bool = False


@dataclass(frozen=True)
class Allocation:
    """What a job asks for.

    Attributes:
        partition: None for the cluster's default.
        hours: Time limit.
        memory: GB.
        cpus: Per job.
        gpus: Per job; 0 for none.
        account: None for the user's own.
        at_once: Jobs that run at the same time, at most.
        cluster: `slurm`, or `local` for processes of this machine.
    """

    partition: str | None = None
    hours: float = 24.0
    memory: float = 80.0
    cpus: int = 4
    gpus: int = 1
    account: str | None = None
    at_once: int = 256
    cluster: str = "slurm"


def settle_relaxation(campaign: Campaign, given: Mapping[str, Any]) -> dict[str, Any]:
    """Settle what relaxes a campaign's structures, and how.

    Args:
        campaign: A `GroundTruth` for the relaxations by the method that counts.
        given: `checkpoint` or `calculator` with `keywords`, `energies`, `optimizer`, `fmax` (eV/Å), `steps`, `shards`;
            None where nothing is said.

    Returns:
        The settings, noted in `campaign.json`; `weights` is the SHA-256 of the checkpoint, which may be moved.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If they differ from an earlier call's, or nothing says what computes the forces.
    """
    stage = stage_of(campaign)
    structures = len(list_placements(campaign))
    defaults: dict[str, Any] = {
        "checkpoint": None,
        "weights": None,
        "calculator": None,
        "keywords": {},
        "energies": None,
        "shards": 1,
    }
    merged = {**read_settings(campaign.folder).get(stage, {}), **{k: v for k, v in given.items() if v is not None}}
    if (merged.get("checkpoint") is None) == (merged.get("calculator") is None):
        raise ValueError("one of --checkpoint and --calculator must say what computes energies and forces")
    if merged.get("optimizer", "lbfgs") not in OPTIMIZERS:
        raise ValueError(f"--optimizer {merged['optimizer']}: choose one of {', '.join(OPTIMIZERS)}")
    if merged.get("energies") not in (None, *ENERGY_KINDS):
        raise ValueError(f"--energies {merged['energies']}: choose one of {', '.join(ENERGY_KINDS)}")
    if not 1 <= merged.get("shards", 1) <= structures:
        raise ValueError(f"--shards {merged['shards']}: with {structures} structures it must be 1 to {structures}")
    checkpoint = given.get("checkpoint")
    asked = given if checkpoint is None else {**given, "weights": _digest(Path(checkpoint))}
    return settle(campaign.folder, stage, asked, {**defaults, **DEFAULTS[stage]}, movable=("checkpoint",))


def run_shard(
    campaign: Campaign, shard: int, machine: Machine, on_progress: Callable[[Progress], None] = lambda progress: None
) -> None:
    """Relax the structures of a shard, or what of them an earlier call left to do.

    Raises:
        BlockingIOError: If another process works on the shard.
        ValueError: If settings, weights or structures differ from an earlier call's, or the checkpoint does not tell
            what its energies are.
    """
    settings = read_settings(campaign.folder)[stage_of(campaign)]
    placements = shard_placements(list_placements(campaign), shard, settings["shards"])
    potential, energies, described = _potential(settings, _device(machine.device, shard), machine.trust)
    folder = shard_folder(campaign, shard)
    relax_in_folder(
        PlacementSource(placements),
        potential,
        Settings(
            optimizer=OPTIMIZERS[settings["optimizer"]](),
            fmax=settings["fmax"],
            max_steps=settings["steps"],
            budget=Budget(machine.max_edges, machine.max_structures),
        ),
        folder,
        described=described,
        on_progress=on_progress,
    )
    mark_done(folder, len(placements), energies)


def run_shards_here(campaign: Campaign, machine: Machine, on_progress: Callable[[int, int], None]) -> None:
    """Relax all shards that are not complete, each in a process of its own.

    Args:
        campaign: Settled before.
        machine: For each of the processes.
        on_progress: Called now and then with structures done and structures in all.

    Raises:
        RuntimeError: If a process ended with an error or was killed; the others are not disturbed by it.
    """
    placements = list_placements(campaign)
    shards = [one.shard for one in count_shards(campaign, placements) if not one.complete]
    threads = max(1, len(os.sched_getaffinity(0)) // max(1, len(shards)))
    context = get_context("spawn")
    processes = {
        shard: context.Process(target=_work, args=(campaign, shard, machine, threads), daemon=True) for shard in shards
    }
    with deaf_to_interrupts():  # Ctrl-C, which all of a terminal get, is for this process to see
        for process in processes.values():
            process.start()
    try:
        while any(process.is_alive() for process in processes.values()):
            time.sleep(_POLL)
            _report(campaign, placements, on_progress)
    finally:
        for process in processes.values():
            process.terminate()
            process.join()
    _report(campaign, placements, on_progress)
    failed = [_failure(campaign, shard, process.exitcode) for shard, process in processes.items() if process.exitcode]
    if failed:
        raise RuntimeError(f"{'; '.join(failed)}. The same call goes on with what is left")


class ShardJob(Checkpointable):
    """A shard as a job: stopped before its time is over, it is queued again and goes on."""

    def __call__(self, campaign: Campaign, shard: int, machine: Machine) -> None:
        """Relax it."""
        run_shard(campaign, shard, machine)


def submit_shards(campaign: Campaign, machine: Machine, allocation: Allocation) -> list[Job]:
    """Hand the shards that are not complete to SLURM, or to processes of this machine.

    Returns:
        Their jobs, which write logs to `submitit/` of the campaign; none if all shards are complete.

    Raises:
        SubmissionError: If there is no SLURM or it does not take the jobs.
    """
    shards = [one.shard for one in count_shards(campaign) if not one.complete]
    executor = open_executor(allocation.cluster, campaign.folder.resolve() / "submitit" / "%j", time_limits=10)
    executor.update_parameters(
        name=f"ev2-adsorbml-{stage_of(campaign)}",
        timeout_min=max(1, round(allocation.hours * 60)),
        mem_gb=allocation.memory,
        cpus_per_task=allocation.cpus,
        gpus_per_node=allocation.gpus or None,  # a cluster without GPUs rejects the request for them, even for none
        slurm_partition=allocation.partition,
        slurm_account=allocation.account,
        slurm_array_parallelism=allocation.at_once,
    )
    there = type(campaign)(campaign.folder.resolve())
    with refusals():
        return executor.map_array(ShardJob(), [there] * len(shards), shards, [machine] * len(shards)) if shards else []


def _potential(settings: Mapping[str, Any], device: str, trust: bool) -> tuple[Potential, str, dict[str, str]]:
    """The potential, the kind of its energies, and what identifies it."""
    if settings["calculator"] is not None:
        calculator = build_calculator(settings["calculator"], settings["keywords"])
        named = {"calculator": settings["calculator"], "keywords": json.dumps(settings["keywords"], sort_keys=True)}
        return CalculatorPotential(calculator), settings["energies"] or "total", named
    from ev2_plugin.integration.loading import load_potential  # most of the time that a process takes to start

    path = Path(settings["checkpoint"])
    digest = _digest(path)
    if settings.get("weights") not in (None, digest):
        raise ValueError(f"checkpoint {path} holds other weights than the campaign's relaxations were begun with")
    potential = load_potential(path, device, trust=trust)
    kind = settings["energies"] or potential.energy_kind.name
    if kind not in ENERGY_KINDS:
        raise ValueError(
            f"checkpoint {path}: what it predicts: {potential.energy_kind}; "
            f"say by --energies whether they count as {' or '.join(ENERGY_KINDS)}"
        )
    return potential, kind, {"checkpoint": digest}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _device(name: str, shard: int) -> str:
    count = torch.cuda.device_count()
    return f"cuda:{shard % count}" if name == "auto" and count > 1 else name


def _work(campaign: Campaign, shard: int, machine: Machine, threads: int) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    error = shard_folder(campaign, shard) / _ERROR
    error.unlink(missing_ok=True)
    try:
        run_shard(campaign, shard, machine)
    except Exception:  # whatever ended the shard, the parent is to report it
        error.parent.mkdir(parents=True, exist_ok=True)
        error.write_text(traceback.format_exc(), encoding="utf-8")
        raise SystemExit(1) from None


def _end_with_parent() -> None:
    """End this process when its parent is gone: it would keep the shard to itself."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _report(campaign: Campaign, placements: Sequence[Placement], on_progress: Callable[[int, int], None]) -> None:
    counts = count_shards(campaign, placements)
    on_progress(sum(one.done for one in counts), sum(one.total for one in counts))


def _failure(campaign: Campaign, shard: int, code: int | None) -> str:
    error = shard_folder(campaign, shard) / _ERROR
    if code is not None and code < 0:
        return f"shard {shard} was ended by signal {-code}"
    said = error.read_text(encoding="utf-8").strip().splitlines()[-1] if error.exists() else f"exit status {code}"
    return f"shard {shard} failed: {said} (all of it in {error})"
