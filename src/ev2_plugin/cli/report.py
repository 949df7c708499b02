"""`ev2 report`: one HTML file that shows a run."""

from pathlib import Path
from typing import Annotated

import typer

from ev2_plugin.cli.json_output import JsonOption, print_json
from ev2_plugin.cli.terminal import one_sentence_errors
from ev2_plugin.progress import show_progress


def report(
    run: Annotated[
        Path | None, typer.Argument(help="A run directory, or a run's folder of logs or checkpoints.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The file to write or replace.")] = Path("report.html"),
    predictions: Annotated[Path | None, typer.Option(help="*_predictions.npz of `--mode predict`.")] = None,
    against: Annotated[Path | None, typer.Option(help="LMDB or ASE database with their labels, or a folder.")] = None,
    relaxations: Annotated[
        Path | None, typer.Option(help="Work folder of `ev2 relax` or run-relaxations, or a folder of *.traj.")
    ] = None,
    trajectories: Annotated[Path | None, typer.Option(help="Their *.traj, where these lie elsewhere.")] = None,
    adsorbml: Annotated[Path | None, typer.Option(help="A campaign of `ev2 adsorbml`.")] = None,
    worst: Annotated[int, typer.Option(min=1, help="Structures with the largest errors to show, of each kind.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """Curves, errors, structures and tables of a run in one HTML file, which needs no network.

    Example: ev2 report runs/logs/local/it --out report.html
    """
    with one_sentence_errors(), show_progress() as follow:
        from ev2_plugin.report.write import write_report

        written = write_report(
            run,
            out,
            predictions=predictions,
            against=against,
            relaxations=relaxations,
            trajectories=trajectories,
            adsorbml=adsorbml,
            worst=worst,
            on_progress=follow,
        )
    if as_json:
        print_json(vars(written))
        return
    for missing in written.missing:
        typer.echo(missing, err=True)
    typer.echo(f"written to {written.path}: {', '.join(written.sections)}")
