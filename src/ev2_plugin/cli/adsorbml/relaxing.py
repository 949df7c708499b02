"""The stages that relax: with the model, and for the ground truth."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ev2_plugin.cli.adsorbml.app import Calculator, EnergyName, Folder, Keywords, Workers, app, named_calculator
from ev2_plugin.cli.json_output import JsonOption, print_json
from ev2_plugin.cli.options import DeviceOption, OptimizerName, chosen
from ev2_plugin.cli.terminal import TrustOption, one_sentence_errors, stoppable
from ev2_plugin.progress import show_progress

_KEPT = "stopped; what is relaxed is kept: the same command goes on with what is left"

Shards = Annotated[int | None, typer.Option(help="Parts to relax apart from each other; 1 if nothing is said.")]
Shard = Annotated[int | None, typer.Option(help="Relax this one part, here (from 0).")]
Fmax = Annotated[float | None, typer.Option(help="Converged when no free atom feels more (eV/Å).")]
Steps = Annotated[int | None, typer.Option(help="Most steps of a relaxation.")]
Optimizer = Annotated[OptimizerName | None, typer.Option(help="lbfgs if nothing is said.")]


class ClusterName(StrEnum):
    """Where submitted jobs run."""

    SLURM = "slurm"
    LOCAL = "local"


@app.command()
def relax(
    campaign: Folder,
    checkpoint: Annotated[Path | None, typer.Option(help="Model.", show_default=False)] = None,
    calculator: Calculator = None,
    keywords: Keywords = None,
    energies: Annotated[
        EnergyName | None, typer.Option(help="What the model predicts, if its checkpoint does not tell.")
    ] = None,
    shards: Shards = None,
    shard: Shard = None,
    fmax: Fmax = None,
    steps: Steps = None,
    optimizer: Optimizer = None,
    device: DeviceOption = "auto",
    max_edges: Annotated[int | None, typer.Option(help="Most edges of a batch.", show_default=False)] = None,
    max_structures: Annotated[int, typer.Option(help="Most structures of a batch.")] = 16,
    trust: TrustOption = False,
    submit: Annotated[bool, typer.Option("--submit", help="Each shard a job of a SLURM array.")] = False,
    partition: Annotated[str | None, typer.Option(help="SLURM partition.", show_default=False)] = None,
    account: Annotated[str | None, typer.Option(help="SLURM account.", show_default=False)] = None,
    hours: Annotated[float, typer.Option(help="Time limit of a job; what is left then is queued again.")] = 24.0,
    memory: Annotated[float, typer.Option(help="Memory of a job [GB].")] = 80.0,
    cpus: Annotated[int, typer.Option(help="CPUs of a job.")] = 4,
    gpus: Annotated[int, typer.Option(help="GPUs of a job; 0 for none.")] = 1,
    at_once: Annotated[int, typer.Option(help="Jobs that run at the same time, at most.")] = 256,
    cluster: Annotated[
        ClusterName, typer.Option(help="Where --submit runs; local is for processes here.")
    ] = ClusterName.SLURM,
    as_json: JsonOption = False,
) -> None:
    """Relax all initial structures with a model (or a calculator); `auto` shares CUDA devices out.

    Example: ev2 adsorbml relax campaign --checkpoint best_checkpoint.pt --energies adsorption
    """
    with stoppable(_KEPT), one_sentence_errors(RuntimeError):
        from ev2_plugin.adsorbml.campaign import Campaign
        from ev2_plugin.integration.adsorbml_relaxation import Allocation, Machine

        model = {"checkpoint": None if checkpoint is None else str(checkpoint.resolve()), "energies": chosen(energies)}
        limits = {"shards": shards, "fmax": fmax, "steps": steps, "optimizer": chosen(optimizer)}
        machine = Machine(device, max_edges, max_structures, trust)
        allocation = Allocation(partition, hours, memory, cpus, gpus, account, at_once, cluster.value)
        given = {**model, **limits, **named_calculator(calculator, keywords)}
        jobs = _relax(Campaign(campaign), given, machine, shard, allocation if submit else None)
        if as_json:
            print_json({**_progress_of(Campaign(campaign)), "jobs": jobs})
        elif submit:
            typer.echo(f"submitted {len(jobs)} jobs: {', '.join(jobs) or 'all shards are complete'}")


@app.command()
def targets(
    campaign: Folder,
    calculator: Calculator = None,
    keywords: Keywords = None,
    oc20_dense: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="oc20dense_targets.pkl and oc20dense_compute.pkl instead.", show_default=False),
    ] = None,
    shards: Shards = None,
    shard: Shard = None,
    fmax: Fmax = None,
    steps: Steps = None,
    optimizer: Optimizer = None,
    workers: Workers = 1,
    as_json: JsonOption = False,
) -> None:
    """Get the ground truth: relax all initial structures with a calculator, or read OC20-Dense's: targets.csv.

    Example: ev2 adsorbml targets campaign --calculator emt
    """
    with stoppable(_KEPT), one_sentence_errors(RuntimeError):
        from ev2_plugin.adsorbml.campaign import Campaign
        from ev2_plugin.adsorbml.ground_truth import collect_targets
        from ev2_plugin.adsorbml.scoring import import_oc20_dense
        from ev2_plugin.adsorbml.shards import GroundTruth
        from ev2_plugin.integration.adsorbml_relaxation import Machine

        if oc20_dense is not None:
            found = import_oc20_dense(Campaign(campaign), *oc20_dense)
        else:
            limits = {"shards": shards, "fmax": fmax, "steps": steps, "optimizer": chosen(optimizer)}
            given = {**limits, **named_calculator(calculator, keywords)}
            _relax(GroundTruth(campaign), given, Machine("cpu"), shard, None)
            if shard is not None:
                if as_json:
                    print_json(_progress_of(GroundTruth(campaign)))
                return
            found = collect_targets(Campaign(campaign), workers)
    valid = sum(one.energy is not None for one in found)
    if as_json:
        print_json({"configurations": len(found), "with_energy": valid, "table": campaign / "targets.csv"})
    else:
        typer.echo(f"{valid} of {len(found)} configurations have an energy: {campaign / 'targets.csv'}")


def _relax(campaign: Any, given: dict[str, Any], machine: Any, shard: int | None, allocation: Any) -> list[str]:
    """Relax one shard here, or hand all of them to SLURM and return the names of the jobs, or relax all here."""
    from ev2_plugin.integration.adsorbml_relaxation import run_shard, run_shards_here, settle_relaxation, submit_shards

    settings = settle_relaxation(campaign, given)
    if allocation is not None:
        return [job.job_id for job in submit_shards(campaign, machine, allocation)]
    with show_progress() as follow:
        if shard is None and settings["shards"] > 1:
            run_shards_here(campaign, machine, partial(follow, "relax"))
        else:
            run_shard(campaign, shard or 0, machine, lambda progress: follow("relax", progress.done, progress.total))
    return []


def _progress_of(campaign: Any) -> dict[str, Any]:
    """How many structures are relaxed, in how many shards."""
    from ev2_plugin.adsorbml.shards import count_shards

    counts = count_shards(campaign)
    done, total = sum(one.done for one in counts), sum(one.total for one in counts)
    return {
        "done": done,
        "total": total,
        "shards": len(counts),
        "open_shards": [one.shard for one in counts if not one.complete],
    }
