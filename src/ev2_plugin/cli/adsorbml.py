"""`ev2 adsorbml`: adsorption energies by AdsorbML, one sub-command per stage of a campaign."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from ev2_plugin.cli.terminal import TrustOption, one_sentence_errors
from ev2_plugin.progress import show_progress

if TYPE_CHECKING:
    from ev2_plugin.adsorbml.success_rate import Scores

adsorbml = typer.Typer(
    name="adsorbml",
    help="Adsorption energies: place, relax, filter, select, single points, score. Each stage goes on where it ended.",
    no_args_is_help=True,
)

Folder = Annotated[Path, typer.Argument(help="Folder of the campaign.", metavar="CAMPAIGN")]
Calculator = Annotated[
    str | None, typer.Option(help="ASE calculator: emt, or package.module.Class.", show_default=False)
]
Keywords = Annotated[str | None, typer.Option(help="Keywords of the calculator as JSON.", show_default=False)]
Workers = Annotated[int, typer.Option(min=1, help="Processes.")]
Shards = Annotated[int | None, typer.Option(help="Parts to relax apart from each other; 1 if nothing is said.")]
Shard = Annotated[int | None, typer.Option(help="Relax this one part, here (from 0).")]
Fmax = Annotated[float | None, typer.Option(help="Converged when no free atom feels more (eV/Å).")]
Steps = Annotated[int | None, typer.Option(help="Most steps of a relaxation.")]
Optimizer = Annotated[str | None, typer.Option(help="lbfgs or fire; lbfgs if nothing is said.")]


@adsorbml.command()
def place(
    campaign: Folder,
    slab: Annotated[list[str], typer.Option(help="Clean slab: a file that ASE reads, or like Cu:111:3x3x4.")],
    adsorbate: Annotated[
        list[str],
        typer.Option(help="Name of fairchem's database like '*OH', or a file or molecule: CO@1 binds by atom 1."),
    ],
    mode: Annotated[
        list[str] | None,
        typer.Option(help="Repeat it: heuristic, random, random_site_heuristic_placement; the first two without."),
    ] = None,
    sites: Annotated[int, typer.Option(help="Sites of the random modes; heuristic takes all it finds.")] = 100,
    per_site: Annotated[int, typer.Option(help="Orientations on each site.")] = 1,
    gap: Annotated[float, typer.Option(help="Between the covalent spheres of adsorbate and slab [Å].")] = 0.1,
    min_width: Annotated[float, typer.Option(help="Least width of a slab [Å].")] = 8.0,
    seed: Annotated[int, typer.Option(help="Of sites and orientations.")] = 0,
    surface: Annotated[
        str, typer.Option(help="Which atoms of a slab's file are its surface: file (its tags), constraints, height.")
    ] = "file",
    relax_with: Annotated[
        str | None, typer.Option(help="ASE calculator that relaxes slabs and adsorbates first.", show_default=False)
    ] = None,
    keywords: Keywords = None,
) -> None:
    """Put every adsorbate on every slab."""
    with one_sentence_errors(RuntimeError), show_progress("systems") as follow:
        from ev2_plugin.adsorbml.campaign import Campaign
        from ev2_plugin.adsorbml.slabs import load_slab
        from ev2_plugin.integration.adsorbml_placing import place_all
        from ev2_plugin.integration.placements import PlacementSettings, load_adsorbate
        from ev2_plugin.potential.calculators import parse_keywords

        systems, structures = place_all(
            Campaign(campaign),
            [load_slab(one, surface) for one in slab],
            [load_adsorbate(one) for one in adsorbate],
            PlacementSettings(tuple(mode or ("heuristic", "random")), sites, per_site, gap, min_width, seed),
            None if relax_with is None else (relax_with, parse_keywords(keywords)),
            partial(follow, "place"),
        )
    typer.echo(f"{structures} structures of {systems} systems placed; what was there before stays")


@adsorbml.command(name="import")
def import_(
    campaign: Folder,
    source: Annotated[Path, typer.Argument(help="Folder with a sub-folder per system: surface.* and configurations.")],
) -> None:
    """Take initial structures that exist already, such as OC20-Dense's."""
    with one_sentence_errors(RuntimeError), show_progress("systems") as follow:
        from ev2_plugin.adsorbml.campaign import Campaign
        from ev2_plugin.adsorbml.importing import import_folder

        systems, structures = import_folder(Campaign(campaign), source, partial(follow, "import"))
    typer.echo(f"{structures} structures of {systems} systems imported; what was there before stays")


@adsorbml.command()
def references(
    campaign: Folder,
    calculator: Calculator = None,
    keywords: Keywords = None,
    oc20: Annotated[bool, typer.Option("--oc20", help="OC20's energies of the adsorbates' atoms.")] = False,
    table: Annotated[
        Path | None, typer.Option(help="CSV: system, slab_energy, adsorbate_energy (eV).", show_default=False)
    ] = None,
) -> None:
    """Note the energies of clean slabs and adsorbates, which total energies are compared with."""
    with one_sentence_errors(RuntimeError):
        from ev2_plugin.adsorbml import systems
        from ev2_plugin.adsorbml.campaign import Campaign
        from ev2_plugin.potential.calculators import parse_keywords

        if (calculator is not None) + oc20 + (table is not None) != 1:
            raise ValueError("choose one of --calculator, --oc20 and --table")
        if calculator is not None:
            energies = systems.calculated_references(calculator, parse_keywords(keywords))
        else:
            energies = systems.oc20_references if table is None else systems.tabulated_references(table)
        count = systems.set_references(Campaign(campaign), energies)
    typer.echo(f"reference energies of {count} systems noted in {campaign / 'systems'}")


@adsorbml.command()
def relax(
    campaign: Folder,
    checkpoint: Annotated[Path | None, typer.Option(help="Model.", show_default=False)] = None,
    calculator: Calculator = None,
    keywords: Keywords = None,
    energies: Annotated[
        str | None, typer.Option(help="What the model predicts, if its checkpoint does not tell: total or adsorption.")
    ] = None,
    shards: Shards = None,
    shard: Shard = None,
    fmax: Fmax = None,
    steps: Steps = None,
    optimizer: Optimizer = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...; auto shares CUDA devices out.")] = "auto",
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
    cluster: Annotated[str, typer.Option(help="Where --submit runs: slurm, or local for processes here.")] = "slurm",
) -> None:
    """Relax all initial structures with a model (or a calculator)."""
    with one_sentence_errors(RuntimeError):
        from ev2_plugin.adsorbml.campaign import Campaign
        from ev2_plugin.integration.adsorbml_relaxation import Allocation, Machine

        model = {"checkpoint": None if checkpoint is None else str(checkpoint.resolve()), "energies": energies}
        limits = {"shards": shards, "fmax": fmax, "steps": steps, "optimizer": optimizer}
        machine = Machine(device, max_edges, max_structures, trust)
        allocation = Allocation(partition, hours, memory, cpus, gpus, account, at_once, cluster)
        _relax(
            Campaign(campaign),
            {**model, **limits, **_named(calculator, keywords)},
            machine,
            shard,
            allocation if submit else None,
        )


@adsorbml.command(name="filter")
def filter_(
    campaign: Folder,
    intercalation: Annotated[
        bool, typer.Option("--intercalation", help="An intercalated adsorbate is invalid too; not so in the paper.")
    ] = False,
    workers: Workers = 1,
) -> None:
    """Look for anomalies and rank what is left: relaxed.csv, ranking.csv; selects 5 per system."""
    with one_sentence_errors(RuntimeError), show_progress() as follow:
        from ev2_plugin.adsorbml.campaign import Campaign
        from ev2_plugin.adsorbml.scoring import filter_relaxed

        found, best = filter_relaxed(Campaign(campaign), intercalation, workers, partial(follow, "filter"))
    flags = ("dissociated", "desorbed", "surface_changed", "intercalated")
    counts = ", ".join(f"{sum(getattr(one, flag) for one in found)} {flag.replace('_', ' ')}" for flag in flags)
    open_ends = sum(not one.converged for one in found)
    typer.echo(f"{sum(one.valid for one in found)} of {len(found)} are valid ({counts}); {open_ends} did not converge")
    typer.echo(f"{len(best)} selected: {campaign / 'top_k.csv'}")


@adsorbml.command()
def select(campaign: Folder, k: Annotated[int, typer.Option("-k", "--k", help="Per system.")] = 5) -> None:
    """Select the k lowest valid configurations of each system: top_k.csv."""
    with one_sentence_errors(RuntimeError):
        from ev2_plugin.adsorbml.campaign import Campaign
        from ev2_plugin.adsorbml.post_processing import rank_relaxed

        best = rank_relaxed(Campaign(campaign), k)
    typer.echo(f"{len(best)} selected of {len({one.system for one in best})} systems: {campaign / 'top_k.csv'}")


@adsorbml.command()
def single_points(
    campaign: Folder,
    write_vasp: Annotated[
        bool, typer.Option("--write-vasp", help="Write POSCAR, INCAR, KPOINTS and labels for POTCAR.")
    ] = False,
    relaxations: Annotated[
        bool, typer.Option("--relaxations", help="VASP is to relax from there, not only to compute.")
    ] = False,
    calculator: Calculator = None,
    keywords: Keywords = None,
) -> None:
    """Hand the selected structures to VASP, or compute them here."""
    with one_sentence_errors(RuntimeError), show_progress() as follow:
        from ev2_plugin.adsorbml.campaign import Campaign
        from ev2_plugin.adsorbml.single_points import compute
        from ev2_plugin.adsorbml.single_points import write_vasp as write_inputs
        from ev2_plugin.potential.calculators import parse_keywords

        if write_vasp == (calculator is not None):
            raise ValueError("choose one of --write-vasp and --calculator")
        if calculator is None:
            written, total = write_inputs(Campaign(campaign), "relaxation" if relaxations else "single-point")
            said = f"inputs of {written} structures written, {total - written} were there"
        else:
            done = compute(Campaign(campaign), calculator, parse_keywords(keywords), partial(follow, "compute"))
            said = f"{done} single points computed"
    typer.echo(f"{said}: {campaign / 'single_points'}; 'ev2 adsorbml collect {campaign}' reads the results")


@adsorbml.command()
def collect(campaign: Folder) -> None:
    """Read the single points' results: single_points.csv."""
    with one_sentence_errors(RuntimeError):
        from ev2_plugin.adsorbml.campaign import Campaign
        from ev2_plugin.adsorbml.single_points import collect as collect_results

        found, missing = collect_results(Campaign(campaign))
    poor = [f"{one.system}.{one.config}" for one in found if not one.converged]
    typer.echo(f"{len(found)} results, {len(missing)} missing, {len(poor)} not converged")
    for what, names in (("missing", missing), ("not converged", poor)):
        for name in names:
            typer.echo(f"{what}: {name}")


@adsorbml.command()
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
) -> None:
    """Get the ground truth: relax all initial structures with a calculator, or read OC20-Dense's: targets.csv."""
    with one_sentence_errors(RuntimeError):
        from ev2_plugin.adsorbml.campaign import Campaign
        from ev2_plugin.adsorbml.ground_truth import collect_targets
        from ev2_plugin.adsorbml.scoring import import_oc20_dense
        from ev2_plugin.adsorbml.shards import GroundTruth
        from ev2_plugin.integration.adsorbml_relaxation import Machine

        if oc20_dense is not None:
            found = import_oc20_dense(Campaign(campaign), *oc20_dense)
        else:
            limits = {"shards": shards, "fmax": fmax, "steps": steps, "optimizer": optimizer}
            given = {**limits, **_named(calculator, keywords)}
            _relax(GroundTruth(campaign), given, Machine("cpu"), shard, None)
            if shard is not None:
                return
            found = collect_targets(Campaign(campaign), workers)
    valid = sum(one.energy is not None for one in found)
    typer.echo(f"{valid} of {len(found)} configurations have an energy: {campaign / 'targets.csv'}")


@adsorbml.command()
def score(
    campaign: Folder,
    k: Annotated[int, typer.Option("-k", "--k", help="Scores are made for 1 to this.")] = 5,
    single_points_are: Annotated[
        str | None, typer.Option(help="total or adsorption; total if nothing is said.", show_default=False)
    ] = None,
    targets_are: Annotated[
        str | None, typer.Option(help="total or adsorption; adsorption with --oc20-dense, else total.")
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Draw published models on OC20-Dense beside the campaign.")
    ] = False,
) -> None:
    """Success rate and speed-up for k = 1 to 5: scores.json, scores.md, success.png."""
    with one_sentence_errors(RuntimeError):
        from ev2_plugin.adsorbml.campaign import Campaign
        from ev2_plugin.adsorbml.published import MODELS
        from ev2_plugin.adsorbml.scoring import score as score_tables

        beside = MODELS if published else ()
        scores, kinds = score_tables(Campaign(campaign), single_points_are, targets_are, k, beside)
    typer.echo(", ".join(f"{name.replace('_', ' ')}: {kind} energies" for name, kind in vars(kinds).items()))
    _show(scores, campaign)


@adsorbml.command()
def status(campaign: Folder) -> None:
    """Show how far each stage is."""
    with one_sentence_errors(RuntimeError):
        from ev2_plugin.adsorbml.campaign import Campaign
        from ev2_plugin.adsorbml.status import campaign_status

        lines = campaign_status(Campaign(campaign))
    for one in lines:
        amount = f"{one.done}" if one.total is None else f"{one.done} of {one.total}"
        typer.echo(f"{one.stage:14} {amount} {one.unit}" + (f" ({one.note})" if one.note else ""))


@adsorbml.command()
def demo(
    out: Annotated[Path, typer.Argument(help="Folder of the campaign.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="Model; EMT with a known error stands in without one.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the placements.")] = 0,
) -> None:
    """Go through all stages on small metal slabs, with ASE's EMT in place of DFT."""
    with one_sentence_errors(RuntimeError), show_progress() as follow:
        from ev2_plugin.integration.adsorbml_demo import run_demo

        scores = run_demo(out, checkpoint, seed, follow)
    _show(scores, out)


def _relax(campaign: Any, given: dict[str, Any], machine: Any, shard: int | None, allocation: Any) -> None:
    """Relax one shard here, or hand all of them to SLURM, or relax all here."""
    from ev2_plugin.integration.adsorbml_relaxation import run_shard, run_shards_here, settle_relaxation, submit_shards

    settings = settle_relaxation(campaign, given)
    if allocation is not None:
        jobs = submit_shards(campaign, machine, allocation)
        typer.echo(f"submitted {len(jobs)} jobs: {', '.join(job.job_id for job in jobs) or 'all shards are complete'}")
        return
    with show_progress() as follow:
        if shard is None and settings["shards"] > 1:
            run_shards_here(campaign, machine, partial(follow, "relax"))
        else:
            run_shard(campaign, shard or 0, machine, lambda progress: follow("relax", progress.done, progress.total))


def _named(calculator: str | None, keywords: str | None) -> dict[str, Any]:
    from ev2_plugin.potential.calculators import parse_keywords

    return {"calculator": calculator, "keywords": None if keywords is None else parse_keywords(keywords)}


def _show(scores: Scores, campaign: Path) -> None:
    from rich.table import Table

    table = Table("k", "success", "speed-up (SCF steps)", "much better", "missing single points")
    for one in scores.top_k:
        speedup = "none" if one.scf_speedup is None else f"{one.scf_speedup:.1f}"
        better = f"{one.much_better / one.systems:.1%}"
        table.add_row(str(one.k), f"{one.success_rate:.1%} ({one.successes})", speedup, better, str(one.missing))
    console = Console()
    console.print(table)
    alone = scores.potential_only
    line = f"{scores.systems} systems; model alone: {alone.success_rate:.1%}; figure: {campaign / 'success.png'}"
    console.print(line, soft_wrap=True, highlight=False, markup=False)
