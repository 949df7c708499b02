"""How a campaign ended, how far it is, and one that shows all stages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ev2_plugin.cli.adsorbml.app import EnergyName, Folder, app
from ev2_plugin.cli.json_output import JsonOption, print_json
from ev2_plugin.cli.options import chosen
from ev2_plugin.cli.terminal import one_sentence_errors
from ev2_plugin.progress import show_progress

if TYPE_CHECKING:
    from ev2_plugin.adsorbml.success_rate import Scores


@app.command()
def score(
    campaign: Folder,
    k: Annotated[int, typer.Option("-k", "--k", help="Scores are made for 1 to this.")] = 5,
    single_points_are: Annotated[
        EnergyName | None, typer.Option(help="total if nothing is said.", show_default=False)
    ] = None,
    targets_are: Annotated[
        EnergyName | None, typer.Option(help="Without it, adsorption for targets of OC20-Dense, else total.")
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Draw published models on OC20-Dense beside the campaign.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Success rate and speed-up for k = 1 to 5: scores.json, scores.md, success.png.

    Example: ev2 adsorbml score campaign --published
    """
    with one_sentence_errors(RuntimeError):
        from ev2_plugin.adsorbml.campaign import Campaign
        from ev2_plugin.adsorbml.published import MODELS
        from ev2_plugin.adsorbml.score_table import as_json as scores_as_json
        from ev2_plugin.adsorbml.scoring import score as score_tables

        beside = MODELS if published else ()
        energies = (chosen(single_points_are), chosen(targets_are))
        scores, kinds = score_tables(Campaign(campaign), *energies, k, beside)
    if as_json:
        print_json({"energies": kinds, **scores_as_json(scores)})
        return
    typer.echo(", ".join(f"{name.replace('_', ' ')}: {kind} energies" for name, kind in vars(kinds).items()))
    _show(scores, campaign)


@app.command()
def status(campaign: Folder, as_json: JsonOption = False) -> None:
    """Show how far each stage is.

    Example: ev2 adsorbml status campaign
    """
    with one_sentence_errors(RuntimeError):
        from ev2_plugin.adsorbml.campaign import Campaign
        from ev2_plugin.adsorbml.status import campaign_status

        lines = campaign_status(Campaign(campaign))
    if as_json:
        print_json(lines)
        return
    for one in lines:
        amount = f"{one.done}" if one.total is None else f"{one.done} of {one.total}"
        typer.echo(f"{one.stage:14} {amount} {one.unit}" + (f" ({one.note})" if one.note else ""))


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(help="Folder of the campaign.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="Model; EMT with a known error stands in without one.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the placements.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Go through all stages on small metal slabs, with ASE's EMT in place of DFT.

    Example: ev2 adsorbml demo campaign
    """
    with one_sentence_errors(RuntimeError), show_progress() as follow:
        from ev2_plugin.adsorbml.score_table import as_json as scores_as_json
        from ev2_plugin.integration.adsorbml_demo import run_demo

        scores = run_demo(out, checkpoint, seed, follow)
    if as_json:
        print_json(scores_as_json(scores))
    else:
        _show(scores, out)


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
