"""From relaxed structures to the few that are worth a single point, and the single points."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from ev2_plugin.cli.adsorbml.app import Calculator, Folder, Keywords, Workers, app
from ev2_plugin.cli.json_output import JsonOption, print_json
from ev2_plugin.cli.terminal import one_sentence_errors
from ev2_plugin.progress import show_progress


@app.command(name="filter")
def filter_(
    campaign: Folder,
    intercalation: Annotated[
        bool, typer.Option("--intercalation", help="An intercalated adsorbate is invalid too; not so in the paper.")
    ] = False,
    workers: Workers = 1,
    as_json: JsonOption = False,
) -> None:
    """Look for anomalies and rank what is left: relaxed.csv, ranking.csv; selects 5 per system.

    Example: ev2 adsorbml filter campaign --workers 4
    """
    with one_sentence_errors(RuntimeError), show_progress() as follow:
        from ev2_plugin.adsorbml.campaign import Campaign
        from ev2_plugin.adsorbml.scoring import filter_relaxed

        found, best = filter_relaxed(Campaign(campaign), intercalation, workers, partial(follow, "filter"))
    flags = ("dissociated", "desorbed", "surface_changed", "intercalated")
    anomalies = {flag: sum(getattr(one, flag) for one in found) for flag in flags}
    valid, open_ends = sum(one.valid for one in found), sum(not one.converged for one in found)
    if as_json:
        totals = {"configurations": len(found), "valid": valid, **anomalies, "not_converged": open_ends}
        print_json({**totals, "selected": len(best), "table": campaign / "top_k.csv"})
        return
    counts = ", ".join(f"{count} {flag.replace('_', ' ')}" for flag, count in anomalies.items())
    typer.echo(f"{valid} of {len(found)} are valid ({counts}); {open_ends} did not converge")
    typer.echo(f"{len(best)} selected: {campaign / 'top_k.csv'}")


@app.command()
def select(
    campaign: Folder,
    k: Annotated[int, typer.Option("-k", "--k", help="Per system.")] = 5,
    as_json: JsonOption = False,
) -> None:
    """Select the k lowest valid configurations of each system: top_k.csv.

    Example: ev2 adsorbml select campaign -k 3
    """
    with one_sentence_errors(RuntimeError):
        from ev2_plugin.adsorbml.campaign import Campaign
        from ev2_plugin.adsorbml.post_processing import rank_relaxed

        best = rank_relaxed(Campaign(campaign), k)
    systems = len({one.system for one in best})
    if as_json:
        print_json({"selected": len(best), "systems": systems, "table": campaign / "top_k.csv"})
    else:
        typer.echo(f"{len(best)} selected of {systems} systems: {campaign / 'top_k.csv'}")


@app.command()
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
    as_json: JsonOption = False,
) -> None:
    """Hand the selected structures to VASP, or compute them here.

    Example: ev2 adsorbml single-points campaign --write-vasp
    """
    with one_sentence_errors(RuntimeError), show_progress() as follow:
        from ev2_plugin.adsorbml.campaign import Campaign
        from ev2_plugin.adsorbml.single_points import compute
        from ev2_plugin.adsorbml.single_points import write_vasp as write_inputs
        from ev2_plugin.potential.calculators import parse_keywords

        if write_vasp == (calculator is not None):
            raise ValueError("choose one of --write-vasp and --calculator")
        if calculator is None:
            written, total = write_inputs(Campaign(campaign), "relaxation" if relaxations else "single-point")
            counts = {"written": written, "there_before": total - written}
            said = f"inputs of {written} structures written, {total - written} were there"
        else:
            done = compute(Campaign(campaign), calculator, parse_keywords(keywords), partial(follow, "compute"))
            counts, said = {"computed": done}, f"{done} single points computed"
    if as_json:
        print_json({**counts, "folder": campaign / "single_points"})
        return
    typer.echo(f"{said}: {campaign / 'single_points'}; 'ev2 adsorbml collect {campaign}' reads the results")


@app.command()
def collect(campaign: Folder, as_json: JsonOption = False) -> None:
    """Read the single points' results: single_points.csv.

    Example: ev2 adsorbml collect campaign
    """
    with one_sentence_errors(RuntimeError):
        from ev2_plugin.adsorbml.campaign import Campaign
        from ev2_plugin.adsorbml.single_points import collect as collect_results

        found, missing = collect_results(Campaign(campaign))
    poor = [f"{one.system}.{one.config}" for one in found if not one.converged]
    if as_json:
        print_json({"results": len(found), "missing": missing, "not_converged": poor})
        return
    typer.echo(f"{len(found)} results, {len(missing)} missing, {len(poor)} not converged")
    for what, names in (("missing", missing), ("not converged", poor)):
        for name in names:
            typer.echo(f"{what}: {name}")
