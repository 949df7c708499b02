"""`ev2 report`: one HTML file that shows a run."""

from pathlib import Path
from typing import Annotated

import typer

from ev2_plugin.cli.terminal import one_sentence_errors


def report(
    run: Annotated[Path, typer.Argument(help="A run directory, or a run's folder of logs or checkpoints.")],
    out: Annotated[Path, typer.Option(help="The file to write or replace.")] = Path("report.html"),
) -> None:
    """Curves, configuration and environment of a run in one HTML file, which needs no network."""
    with one_sentence_errors():
        from ev2_plugin.report.write import write_report

        written = write_report(run, out)
    for missing in written.missing:
        typer.echo(missing, err=True)
    typer.echo(f"written to {written.path}: {', '.join(written.sections)}")
